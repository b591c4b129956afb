"""Train two layers on repeated random words, and ablate each head: the one that scores highest must carry the repeat.

python -m benchmarks.induction

The text is made of sequences of 8 to 24 different words, drawn at random and written twice, so that nothing but the
repetition predicts a word, and no fixed distance does. The model is trained by `jaxgpt train`. Then, on new sequences,
each head's output is set to 0: the cost is how much the loss on the second copy grows, in nats.
"""

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.inference.induction import head_scores
from jaxgpt.inference.trace import Patch, logits_of, trace
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights

FIRST_ID, WORDS = 1000, 64  # the text's token ids
SEQUENCES, LENGTH = 64, 16  # on which the heads are measured
SHAPE = ["--n-layer", "2", "--n-embd", "64", "--block-size", "64", "--T", "64", "--B", "8"]


def draw_twice(draw: np.random.Generator, ids: np.ndarray, length: int) -> np.ndarray:
    """So many different ids in random order, twice."""
    return np.tile(draw.permutation(ids)[:length], 2)


def write_text(path: Path, tokens: int) -> None:
    """Write a .bin of token ids."""
    draw, parts = np.random.default_rng(0), []
    while len(parts) * 32 < tokens:  # 32 is the mean
        parts.append(draw_twice(draw, FIRST_ID + np.arange(WORDS), draw.integers(8, 25)))
    np.concatenate(parts).astype(np.uint16).tofile(path)


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
    flags.add_argument("--steps", default="2000")
    flags.add_argument("--lr", default="4e-3")
    flags.add_argument("--heads", default="4")
    flags.add_argument("--seed", default="0")
    flags.add_argument("--out", default="", help="keep the run here")
    flags = flags.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = flags.out or f"{folder}/run"
        write_text(Path(folder, "repeated.bin"), 2_000_000)
        words = ["train", *SHAPE, "--n-head", flags.heads, "--data", f"{folder}/repeated.bin", "--order", "shuffled"]
        words += [
            "--lr",
            flags.lr,
            "--schedule",
            "cosine",
            "--warmup-ratio",
            "0.03",
            "--grad-clip",
            "1",
            "--steps",
            flags.steps,
            "--seed",
            flags.seed,
            "--out",
            run,
        ]
        started = time.perf_counter()
        subprocess.run([sys.executable, "-m", "jaxgpt", *words, "--probe", "induction"], check=True)
        print(f"trained in {time.perf_counter() - started:.0f} s")
        model = load(resolve_weights(run))
    for name, pool in (("the text's words", FIRST_ID + np.arange(WORDS)), ("all ids", np.arange(50257))):
        draw = np.random.default_rng(1)
        tokens = jnp.asarray(np.stack([draw_twice(draw, pool, LENGTH) for _ in range(SEQUENCES)]), jnp.int32)
        scores = {score: np.asarray(values) for score, values in jax.jit(head_scores)(model, tokens).items()}
        L, H = scores["induction"].shape
        each = np.eye(L * H, dtype=bool).reshape(L * H, L, H)
        intact, *losses = np.asarray(repeat_losses(model, tokens, np.concatenate([0 * each[:1], each]))).tolist()
        print(f"\nrandom sequences of {name}: loss on the second copy {intact:.3f} nats")
        print("| head | induction score | previous-token score | cost of its ablation |\n|---|---|---|---|")
        for number, loss in enumerate(losses):
            layer, head = divmod(number, H)
            numbers = (scores[score][layer, head] for score in ("induction", "previous_token"))
            print(f"| {layer}.{head} | {' | '.join(f'{value:.3f}' for value in numbers)} | {loss - intact:+.3f} |")


if __name__ == "__main__":
    main()
