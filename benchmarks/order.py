"""Microseconds to make the next batch on the host, in each order: B=64, T=1024, 100 million tokens in a memory map.

python benchmarks/order.py

Real loaders on files that this makes in a temporary folder. The orders are timed in turn, one batch each, and
every batch is another one; medians, and what each is above sequential.
"""

import dataclasses
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt.data import shards, token_file
from jaxgpt.data.loader import next_batch
from jaxgpt.data.windows import next_windows


@dataclasses.dataclass
class Flags:
    """Time the loader's orders beside each other."""

    B: int = 64
    """Sequences a batch."""
    T: int = 1024
    """Tokens of a sequence."""
    tokens: int = 100_000_000
    """Of the text."""
    batches: int = 2000
    """Of each order."""


def main(flags: Flags) -> None:
    B, T = flags.B, flags.T
    with tempfile.TemporaryDirectory() as name:
        folder, drawn = Path(name), np.random.default_rng(0)
        parts = (drawn.integers(0, 50257, min(2**20, flags.tokens - i)) for i in range(0, flags.tokens, 2**20))
        shards.write(folder, "whole", [np.concatenate([part.astype(np.uint16) for part in parts])], flags.tokens)
        one = np.asarray(token_file.map_file(folder / "whole_000000.bin"))
        written = shards.write(folder, "train", [one], -(-flags.tokens // 10))
        shards.write_meta(folder, {"train": {"shards": written}})
        ten = shards.open_split(folder, "train")
        batches = (len(one) - 1) // (B * T)
        orders = {
            "sequential": lambda k: next_batch(one, k % batches * B * T, B, T),
            "sequential, 10 shards": lambda k: next_batch(ten, k % batches * B * T, B, T),
            "shuffled": lambda k: next_windows([one], (1,), k * B * T, B, T, 0),
            "shuffled, 10 shards": lambda k: next_windows([ten], (1,), k * B * T, B, T, 0),
            "mix of 2, sequential": lambda k: next_windows([one, one], (7, 3), k * B * T, B, T, None),
            "mix of 2, shuffled": lambda k: next_windows([one, one], (7, 3), k * B * T, B, T, 0),
        }
        seconds = {order: [] for order in orders}
        for k in range(flags.batches):
            for order, batch in orders.items():
                start = time.perf_counter()
                batch(k)
                seconds[order].append(time.perf_counter() - start)
    medians = {order: 1e6 * statistics.median(each) for order, each in seconds.items()}
    print(f"{'order':24} |  µs a batch | above sequential, µs")
    for order, each in medians.items():
        print(f"{order:24} | {each:11.1f} | {each - medians['sequential']:20.1f}")


if __name__ == "__main__":
    main(tyro.cli(Flags, use_underscores=False))
