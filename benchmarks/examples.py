"""Seconds and memory of reading a file of examples, at the first start and at the second.

python benchmarks/examples.py

The files have 58 MB of prompts with completions, of conversations, and of texts with labels, in words of tiny
Shakespeare. Each start is a process of its own; its memory is the peak, less that of the imports and the tokenizer.
"""

import gzip
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

REPOSITORY = Path(__file__).parent.parent
WORDS = gzip.decompress((REPOSITORY / "jaxgpt/data/tiny_shakespeare.txt.gz").read_bytes()).decode().split(" ")
DRAW = random.Random(0)

LOAD = """
import resource, sys, time
from jaxgpt.data import examples
from jaxgpt.data.gpt2_tokenizer import encoding

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

encoding()
before, start = peak(), time.perf_counter()
(data,) = examples.load(sys.argv[1], B=8, T=256)
seconds = time.perf_counter() - start
print(f"{seconds:5.1f} s  {peak() - before:5.0f} MB  {data.num_rows():,} rows")
"""


def text(most: int) -> str:
    length = DRAW.randint(5, most)
    start = DRAW.randrange(len(WORDS) - length)
    return " ".join(WORDS[start : start + length]).strip() or "Enter."


RECORDS = {
    "pairs": lambda: {"prompt": text(60), "completion": " " + text(80)},
    "conversations": lambda: {
        "messages": [{"role": role, "content": text(60)} for role in ["user", "assistant"] * DRAW.randint(1, 3)]
    },
    "labels": lambda: {"text": text(40), "label": DRAW.randint(0, 4)},
}


def write(path: Path, make: Callable[[], dict], size: int = 58_000_000) -> None:
    with path.open("w") as file:
        while file.tell() < size:
            file.write(json.dumps(make()) + "\n")


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        environment = os.environ | {"JAXGPT_CACHE": folder, "PYTHONPATH": str(REPOSITORY)}
        for name, make in RECORDS.items():
            path = Path(folder, f"{name}.jsonl")
            write(path, make)
            for start in ("first", "second"):
                done = subprocess.run(
                    [sys.executable, "-c", LOAD, path], env=environment, stdout=subprocess.PIPE, text=True, check=True
                )
                print(f"{name:14} {start:7} {done.stdout}", end="", flush=True)


if __name__ == "__main__":
    main()
