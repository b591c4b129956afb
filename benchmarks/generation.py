"""Greedy generation with GPT-2 124M beside `transformers`: the same weights, prompts and tokens, on the CPU.

pip install torch transformers
python benchmarks/generation.py

Both keep a key-value cache and compute in float32 with their own default threads. Runs alternate, each times a whole
call, and the medians are compared; compilation is timed apart.
"""

import dataclasses
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")
sys.path.insert(0, str(Path(__file__).parent.parent))

import jax
import numpy as np
import torch
import transformers
import tyro

from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import save_hf


@dataclasses.dataclass
class Flags:
    """Time greedy generation beside transformers."""

    batches: tuple[int, ...] = (1, 8)
    """Prompts at a time."""
    prompts: tuple[int, ...] = (32, 512)
    """Lengths of the prompts, in tokens."""
    new_tokens: int = 64
    """Tokens to generate for each."""
    rounds: int = 5
    """Runs of each side."""


def seconds(action: Callable[[], object]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def main(flags: Flags) -> None:
    model = jax.jit(lambda key: GPT2(GPT2Config(), key))(jax.random.key(0))
    with tempfile.TemporaryDirectory() as folder:
        save_hf(model, Path(folder) / "weights")
        theirs = transformers.GPT2LMHeadModel.from_pretrained(Path(folder) / "weights").eval()

    new = flags.new_tokens
    versions = f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"GPT-2 124M, greedy, float32, {new} new tokens, {os.cpu_count()} CPU cores; {versions}")
    print(f"tokens/s, medians of {flags.rounds} alternating runs\n")
    print("| batch | prompt | transformers | jaxgpt | ratio | jaxgpt's first call | same tokens |")
    print("|---|---|---|---|---|---|---|")
    for B in flags.batches:
        for T in flags.prompts:
            ids = np.random.default_rng(B + T).integers(0, 50257, (B, T))
            texts = {}

            def ours(ids=ids, texts=texts):
                texts["ours"] = generate(model, ids.tolist(), new, temperature=0)

            def their(ids=ids, texts=texts):
                with torch.inference_mode():
                    texts["theirs"] = theirs.generate(
                        torch.tensor(ids),
                        attention_mask=torch.ones(ids.shape, dtype=torch.long),
                        max_new_tokens=new,
                        min_new_tokens=new,
                        do_sample=False,
                        pad_token_id=50256,
                    )[:, ids.shape[1] :].tolist()

            first = seconds(ours)
            their()
            times = [(seconds(their), seconds(ours)) for _ in range(flags.rounds)]
            speeds = [B * new / statistics.median(side) for side in zip(*times, strict=True)]
            same = sum(a == b for a, b in zip(texts["ours"], texts["theirs"], strict=True))
            print(
                f"| {B} | {T} | {speeds[0]:.1f} | {speeds[1]:.1f} | {speeds[1] / speeds[0]:.2f} "
                f"| {first:.1f} s | {same} of {B} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Flags))
