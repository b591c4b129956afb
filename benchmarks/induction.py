"""Train four layers of one head on repeated random sequences, score their heads, and ablate each.

python -m benchmarks.induction

Each sequence is 4 to 12 random ids, repeated until the context is full, so that only the repetition predicts an id, at
no fixed distance. Then, on new sequences that are written twice, each head's output is set to 0: the cost is how much
the loss on the second copy grows, in nats.

A layer has one head, and training ends soon after the loss has dropped: heads of a layer start alike and share the
work (--heads 2), and later layers come to help (--steps 1000 --seed 1).
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

V, T, B = 32, 32, 32
SEQUENCES, LENGTH = 64, 8  # on which the heads are measured


def draw_rows(draw: np.random.Generator) -> np.ndarray:
    """A batch, int32 (B, T + 1)."""
    lengths = draw.integers(4, 13, B)
    return np.stack([np.resize(draw.integers(0, V, length), T + 1) for length in lengths]).astype(np.int32)


def train_model(layers: int, heads: int, steps: int, lr: float, seed: int) -> GPT2:
    """A model that has learned to continue repetitions, if the steps suffice."""
    config = GPT2Config(vocab_size=V, block_size=T, n_layer=layers, n_head=heads, n_embd=64)
    schedule = optax.warmup_cosine_decay_schedule(0, lr, min(100, steps // 3), steps, lr / 10)
    tx = make_optimizer(TrainConfig.of().optimizer, schedule)
    state = init_state(jax.random.key(seed), config=config, tx=tx)
    step = jax.jit(functools.partial(train_step, objective=next_token.OBJECTIVE, tx=tx), donate_argnums=0)
    draw, started = np.random.default_rng(seed), time.perf_counter()
    for n in range(1, steps + 1):
        rows = draw_rows(draw)
        state, metrics = step(state, {"tokens": rows[:, :-1], "targets": rows[:, 1:]})
        if n % 100 == 0:
            print(f"step {n:,}: loss {float(metrics['loss']):.3f}, {time.perf_counter() - started:.0f} s", flush=True)
    return state.model


def measure_heads(model: GPT2, seed: int) -> tuple[float, dict[str, np.ndarray], np.ndarray, float]:
    """What the heads of a model do on new sequences.

    Returns:
      The loss on the second copy; the scores of induction.head_scores and the cost of each head's ablation, all (L, H);
      the cost of ablating all heads whose induction score is above 0.5.
    """
    tokens = np.tile(np.random.default_rng(seed).integers(0, V, (SEQUENCES, LENGTH)), (1, 2)).astype(np.int32)
    scores = {name: np.asarray(values) for name, values in jax.jit(head_scores)(model, jnp.asarray(tokens)).items()}
    together = scores["induction"] > 0.5
    each = np.eye(together.size, dtype=bool).reshape(-1, *together.shape)
    intact, joint, *losses = repeat_losses(model, tokens, np.stack([np.zeros_like(together), together, *each])).tolist()
    return intact, scores, np.reshape(losses, together.shape) - intact, joint - intact


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
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--heads", type=int, default=1)
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--seed", type=int, default=0)
    flags = parser.parse_args()
    if min(flags.steps, flags.layers, flags.heads) < 1 or 64 % flags.heads:
        parser.error("--steps and --layers must be at least 1, and --heads a divisor of 64")
    model = train_model(**vars(flags))
    intact, scores, costs, joint = measure_heads(model, flags.seed + 1)
    top, previous = (np.unravel_index(scores[name].argmax(), costs.shape) for name in ("induction", "previous_token"))
    print(f"\nloss on the second copy: {intact:.3f} nats; of a guess ln {V} = {np.log(V):.3f}\n")
    print("| head | induction score | previous-token score | cost of its ablation |\n|---|---|---|---|")
    for head, cost in np.ndenumerate(costs):
        numbers = " | ".join(f"{scores[name][head]:.3f}" for name in ("induction", "previous_token"))
        print(f"| {head[0]}.{head[1]} | {numbers} | {cost:+.3f} |")
    print(f"| all with an induction score above 0.5: {(scores['induction'] > 0.5).sum()} | | | {joint:+.3f} |\n")
    others = [cost for head, cost in np.ndenumerate(costs) if head not in (top, previous)]
    print(f"without the top induction head {costs[top]:+.3f}, the previous-token head {costs[previous]:+.3f}")
    if others:
        print(f"without another head {np.mean(others):+.3f} in the mean, {max(others):+.3f} at most")


if __name__ == "__main__":
    main()
