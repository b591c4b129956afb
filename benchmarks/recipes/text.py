"""Tiny Shakespeare, which jaxgpt brings, as two text files: the last tenth is for validation."""

import gzip
import random
from pathlib import Path

import jaxgpt

SHAKESPEARE = Path(jaxgpt.__file__).parent / "data" / "tiny_shakespeare.txt.gz"


def write(out: Path, draw: random.Random, train: int, val: int) -> None:
    """train.txt and val.txt, of so many lines; 0: all."""
    lines = gzip.decompress(SHAKESPEARE.read_bytes()).decode().splitlines(keepends=True)
    cut = len(lines) * 9 // 10
    for name, some in (("train", lines[:cut][: train or cut]), ("val", lines[cut:][: val or cut])):
        (out / f"{name}.txt").write_text("".join(some), encoding="utf-8")
