"""Answers to prompts of different lengths, by `evaluate --generate` beside `transformers`: the same weights and tokens.

pip install torch transformers
python -m benchmarks.generate_answers

Both write greedily in float32, with their own default threads and the same batch size; prompts are sorted by length
for both. The stop token's logit is made larger, so that many answers end early. Runs alternate, each times all prompts,
and the medians are compared; compilation is timed apart.
"""

import dataclasses
import os
import statistics
import tempfile
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np
import torch
import transformers
import tyro

from benchmarks.generation import seconds
from jaxgpt.inference.complete import complete
from jaxgpt.inference.sampling import make_sampling_params
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import save_hf

STOP = 50256


@dataclasses.dataclass
class Flags:
    """Time answers beside transformers."""

    n_layer: int = 4
    """Layers."""
    n_embd: int = 256
    """Width."""
    prompts: int = 48
    """How many."""
    lengths: tuple[int, int] = (8, 192)
    """The fewest and the most tokens of a prompt; uniform between."""
    new_tokens: tuple[int, ...] = (16, 64)
    """The most tokens of an answer."""
    batches: tuple[int, ...] = (1, 8, 32)
    """Prompts at a time."""
    stop_scale: float = 2.5
    """By how much the stop token's row of the output matrix is longer than others: so many answers end early."""
    rounds: int = 3
    """Runs of each side."""


def write_with_transformers(model, prompts: list[list[int]], new: int, batch_size: int) -> list[list[int]]:
    """Their answers, a batch after the other, padded on the left."""
    answers: list[list[int]] = [[] for _ in prompts]
    order = sorted(range(len(prompts)), key=lambda number: -len(prompts[number]))
    for start in range(0, len(order), batch_size):
        batch = order[start : start + batch_size]
        longest = max(len(prompts[number]) for number in batch)
        padding = [longest - len(prompts[number]) for number in batch]
        ids = torch.tensor([[STOP] * pad + prompts[number] for pad, number in zip(padding, batch, strict=True)])
        mask = torch.tensor([[0] * pad + [1] * (longest - pad) for pad in padding])
        options = {"max_new_tokens": new, "do_sample": False, "eos_token_id": STOP, "pad_token_id": STOP}
        with torch.inference_mode():
            texts = model.generate(ids, attention_mask=mask, **options)[:, longest:].tolist()
        for number, text in zip(batch, texts, strict=True):
            answers[number] = text[: text.index(STOP)] if STOP in text else text
    return answers


def main(flags: Flags) -> None:
    config = GPT2Config(n_layer=flags.n_layer, n_head=flags.n_embd // 64, n_embd=flags.n_embd)
    model = jax.jit(lambda key: GPT2(config, key))(jax.random.key(0))
    spread = np.random.default_rng(0)
    model = jax.tree.map(lambda leaf: leaf + 0.02 * spread.standard_normal(leaf.shape, np.float32), model)
    rows = np.array(model.wte.embedding[...])
    rows[STOP] *= flags.stop_scale
    model.wte.embedding[...] = rows
    with tempfile.TemporaryDirectory() as folder:
        save_hf(model, Path(folder) / "weights")
        theirs = transformers.GPT2LMHeadModel.from_pretrained(Path(folder) / "weights").eval()
    rng = np.random.default_rng(1)
    prompts = [
        rng.integers(50256, size=rng.integers(flags.lengths[0], flags.lengths[1] + 1)).tolist()
        for _ in range(flags.prompts)
    ]
    count = sum(leaf.size for leaf in jax.tree.leaves(model)) / 1e6
    versions = f"jax {jax.__version__}, torch {torch.__version__}, transformers {transformers.__version__}"
    print(f"GPT-2 of {count:.0f}M parameters, greedy, float32, {len(os.sched_getaffinity(0))} CPU cores; {versions}")
    print("| batch | most new tokens | tokens | transformers, s | jaxgpt, s | ratio | first call | same answers |")
    print("|---|---|---|---|---|---|---|---|")
    for batch_size in flags.batches:
        for new in flags.new_tokens:
            texts = {}

            def ours(new=new, batch_size=batch_size, texts=texts):
                sampling = make_sampling_params(temperature=0, stop=STOP)
                texts["ours"] = complete(model, prompts, new, batch_size, sampling)

            def their(new=new, batch_size=batch_size, texts=texts):
                texts["theirs"] = write_with_transformers(theirs, prompts, new, batch_size)

            first = seconds(ours)
            their()
            times = [(seconds(their), seconds(ours)) for _ in range(flags.rounds)]
            slow, fast = (statistics.median(side) for side in zip(*times, strict=True))
            same = sum(a == b for a, b in zip(texts["ours"], texts["theirs"], strict=True))
            tokens = sum(map(len, texts["ours"]))
            print(
                f"| {batch_size} | {new} | {tokens:,} | {slow:.2f} | {fast:.2f} | {slow / fast:.2f} "
                f"| {first:.1f} s | {same} of {len(prompts)} |",
                flush=True,
            )


if __name__ == "__main__":
    main(tyro.cli(Flags))
