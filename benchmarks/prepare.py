"""Preparing data: megabytes of text a second on all cores, beside bare tiktoken; and the memory it takes.

    python benchmarks/prepare.py --megabytes 200

The input is generated: JSONL documents of about 3,000 characters, each of lines drawn from the Python language
reference. Bare tiktoken is `encode_ordinary_batch` of those texts, in memory already, with a thread a core; or
`encode_to_numpy` of an equal part of them in a process a core, which makes no lists. Each row is the median of
interleaved runs; the ratios are to bare tiktoken's. Memory is the largest sum of the proportional set sizes of the
command and its workers (what two share counts half for each), looked at ten times a second.
"""

import argparse
import json
import multiprocessing
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from rich.console import Console
from rich.table import Table

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt.data.gpt2_tokenizer import encoding

ROOT = Path(__file__).parent.parent
RUNS = {
    "cleaning off": ["--clean", "none", "--dedup", "none"],
    "default: unicode, controls, exact copies": [],
    "and personal data replaced": ["--pii", "replace"],
    "and MinHash": ["--pii", "replace", "--dedup", "minhash"],
    "and the filters for web text": [
        *("--pii", "replace", "--dedup", "minhash", "--language", "en", "--clean", "unicode", "controls"),
        *("boilerplate", "c4", "gopher-repetition", "gopher-quality", "fineweb"),
    ],
}


def generate(path: Path, megabytes: float) -> None:
    """Write about so many megabytes of documents."""
    from pydoc_data.topics import topics

    rng = random.Random(0)
    lines = [line for text in topics.values() for line in text.split("\n") if line.strip()]
    with path.open("w") as file:
        while file.tell() < megabytes * 1e6:
            file.write(json.dumps({"text": "\n".join(rng.choices(lines, k=60))}) + "\n")


def threads(texts: list[str], cores: int) -> None:
    for first in range(0, len(texts), 4096):
        encoding().encode_ordinary_batch(texts[first : first + 4096], num_threads=cores)


def processes(texts: list[str], cores: int) -> None:
    def part(core: int) -> None:
        for text in texts[core::cores]:
            encoding().encode_to_numpy(text, disallowed_special=())

    context = multiprocessing.get_context("fork")
    started = [context.Process(target=part, args=(core,)) for core in range(cores)]
    for process in started:
        process.start()
    for process in started:
        process.join()


BARE = {"bare tiktoken, threads": threads, "bare tiktoken, processes": processes}


def bare(path: Path, way: str) -> float:
    """Seconds of tiktoken alone."""
    texts = [json.loads(line)["text"] for line in path.open()]
    start = time.perf_counter()
    BARE[way](texts, len(os.sched_getaffinity(0)))
    return time.perf_counter() - start


def prepared(path: Path, flags: list[str]) -> tuple[float, float]:
    """Seconds of the whole command, its start included, and gigabytes."""
    out = Path(tempfile.mkdtemp(dir=path.parent)) / "out"
    command = [sys.executable, "-m", "jaxgpt", "prepare", str(path), "--out", str(out), *flags]
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL) as process:
        most, done = [0.0], threading.Event()
        watch = threading.Thread(target=_watch, args=(process.pid, most, done))
        watch.start()
        code = process.wait()
        took = time.perf_counter() - start
        done.set()
        watch.join()
    if code:
        sys.exit(f"{' '.join(command)} ended with {code}")
    shutil.rmtree(out.parent)
    return took, most[0]


def _watch(pid: int, most: list[float], done: threading.Event) -> None:
    while not done.wait(0.1):
        most[0] = max(most[0], sum(map(_memory, _family(pid))) / 1e9)


def _family(pid: int) -> list[int]:
    """A process and what it started, and what those did."""
    try:
        children = [
            int(word) for path in Path(f"/proc/{pid}/task").glob("*/children") for word in path.read_text().split()
        ]
    except OSError:
        return []
    return [pid, *(each for child in children for each in _family(child))]


def _memory(pid: int) -> int:
    try:
        text = Path(f"/proc/{pid}/smaps_rollup").read_text()
        return 1024 * int(next(line.split()[1] for line in text.splitlines() if line.startswith("Pss:")))
    except (OSError, StopIteration):
        return 0


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--megabytes", type=float, default=200, help="of input")
    parser.add_argument("--runs", type=int, default=3, help="of each row")
    parser.add_argument("--rows", type=int, default=len(RUNS), help="how many of the rows, from the first")
    parser.add_argument("--folder", type=Path, help="where the input and the results are for a while")
    args = parser.parse_args()
    names = list(RUNS)[: args.rows]
    with tempfile.TemporaryDirectory(dir=args.folder) as folder:
        path = Path(folder) / "text.jsonl"
        generate(path, args.megabytes)
        size = sum(len(json.loads(line)["text"].encode()) for line in path.open()) / 1e6
        took: dict[str, list[float]] = {name: [] for name in (*BARE, *names)}
        memory: dict[str, float] = {}
        for _ in range(args.runs):
            for way in BARE:
                took[way].append(bare(path, way))
            for name in names:
                seconds, gigabytes = prepared(path, RUNS[name])
                took[name].append(seconds)
                memory[name] = max(memory.get(name, 0), gigabytes)
    cores = len(os.sched_getaffinity(0))
    table = Table(title=f"{size:,.0f} MB of text, {cores} cores, {args.runs} runs")
    for column in ("", "MB/s", "of threads", "of processes", "memory, GB"):
        table.add_column(column, justify="left" if not column else "right")
    first, second = (statistics.median(took[way]) for way in BARE)
    for name, seconds in took.items():
        median = statistics.median(seconds)
        used = f"{memory[name]:.2f}" if name in memory else ""
        table.add_row(name, f"{size / median:.1f}", f"{first / median:.2f}", f"{second / median:.2f}", used)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
