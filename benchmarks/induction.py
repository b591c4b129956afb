"""Train two layers on repeated random sequences, score their heads, and ablate each.

python -m benchmarks.induction

Each sequence is 4 to 12 random ids, repeated until the context is full, so that only the repetition predicts an id, at
no fixed distance. Then, on new sequences that are written twice, each head's output is set to 0: the cost is how much
the loss on the second copy grows, in nats.
"""

import argparse
import functools
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax

from jaxgpt.inference.induction import head_scores
from jaxgpt.inference.trace import Patch, logits_of, trace
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import next_token
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state, train_step

V, T, B = 32, 32, 64
SEQUENCES, LENGTH = 64, 8  # on which the heads are measured


def draw_rows(draw: np.random.Generator) -> np.ndarray:
    """A batch, int32 (B, T + 1)."""
    lengths = draw.integers(4, 13, B)
    return np.stack([np.resize(draw.integers(0, V, length), T + 1) for length in lengths]).astype(np.int32)


@jax.jit
def repeat_losses(model: GPT2, tokens: jax.Array, ablated: jax.Array) -> jax.Array:
    """The loss on the second copy without some heads, float32 (N,), mean over sequences.

    Args:
      tokens: int (sequences, 2 T).
      ablated: bool (N, L, H), heads whose output is set to 0.
    """
    T, (_, L, H) = tokens.shape[1] // 2, ablated.shape
    C, zeros = model.config.n_embd, jnp.zeros

    def loss(heads: jax.Array) -> jax.Array:
        patch = Patch(
            heads, zeros((L, 2 * T), bool), zeros((L, 2 * T, H, C // H), jnp.float32), zeros((L, 2 * T, C), jnp.float32)
        )

        def one(text: jax.Array) -> jax.Array:
            log_p = jax.nn.log_softmax(logits_of(model, trace(model, text, patch)[0]))
            return -jnp.take_along_axis(log_p[T:-1], text[T + 1 :, None], axis=1).mean()

        return jax.vmap(one)(tokens).mean()

    return jax.lax.map(loss, ablated)


def main() -> None:
    flags = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    flags.add_argument("--steps", type=int, default=2500)
    flags.add_argument("--heads", type=int, default=4)
    flags.add_argument("--lr", type=float, default=2e-3)
    flags.add_argument("--seed", type=int, default=0)
    flags = flags.parse_args()
    config = GPT2Config(vocab_size=V, block_size=T, n_layer=2, n_head=flags.heads, n_embd=64)
    schedule = optax.warmup_cosine_decay_schedule(0, flags.lr, 100, flags.steps, flags.lr / 10)
    tx = make_optimizer(TrainConfig.of().optimizer, schedule)
    state = init_state(jax.random.key(flags.seed), config=config, tx=tx)
    step = jax.jit(functools.partial(train_step, objective=next_token.OBJECTIVE, tx=tx), donate_argnums=0)
    draw, started = np.random.default_rng(flags.seed), time.perf_counter()
    for n in range(1, flags.steps + 1):
        rows = draw_rows(draw)
        state, metrics = step(state, {"tokens": rows[:, :-1], "targets": rows[:, 1:]})
        if n % 500 == 0:
            print(f"step {n:,}: loss {float(metrics['loss']):.3f}, {time.perf_counter() - started:.0f} s", flush=True)

    draw = np.random.default_rng(flags.seed + 1)
    tokens = jnp.asarray(np.tile(draw.integers(0, V, (SEQUENCES, LENGTH)), (1, 2)), jnp.int32)
    scores = {name: np.asarray(values) for name, values in jax.jit(head_scores)(state.model, tokens).items()}
    heads = [(layer, head) for layer in range(2) for head in range(flags.heads)]
    each = np.eye(len(heads), dtype=bool).reshape(len(heads), 2, flags.heads)
    together = scores["induction"] > 0.5
    ablated = np.stack([np.zeros_like(together), together, *each])
    intact, joint, *losses = np.asarray(repeat_losses(state.model, tokens, ablated)).tolist()
    print(f"\nloss on the second copy: {intact:.3f} nats; of a guess ln {V} = {np.log(V):.3f}\n")
    print("| head | induction score | previous-token score | cost of its ablation |\n|---|---|---|---|")
    for (layer, head), loss in zip(heads, losses, strict=True):
        numbers = (scores[name][layer, head] for name in ("induction", "previous_token"))
        print(f"| {layer}.{head} | {' | '.join(f'{value:.3f}' for value in numbers)} | {loss - intact:+.3f} |")
    print(f"| the {together.sum()} with an induction score above 0.5 | | | {joint - intact:+.3f} |")


if __name__ == "__main__":
    main()
