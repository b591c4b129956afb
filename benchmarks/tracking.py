"""What a tracker beside a run costs its steps: python benchmarks/tracking.py --pairs 60

One run trains all the time. Its tracker, which `train --track` started, is stopped and continued by signals in turn, so
that both kinds of window meet the same machine. The ratio of a pair is that of the median milliseconds of a step with
the tracker and without; of all pairs, the median and the quartiles are printed, and the CPU time that the tracker took.
"""

import argparse
import json
import os
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).parent.parent


def read_step_ms(log: Path, start: int) -> tuple[list[float], int]:
    """The milliseconds of the steps whose rows begin at or after an offset, and the offset of the next row."""
    with log.open("rb") as file:
        file.seek(start)
        lines = [line for line in file.readlines() if line.endswith(b"\n")]
    return [json.loads(line)["step_ms"] for line in lines], start + sum(map(len, lines))


def cpu_seconds(pid: int) -> float:
    """Of a process, so far; Linux."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def find_tracker(trainer: int) -> int:
    """The process that a trainer has started."""
    while not (children := Path(f"/proc/{trainer}/task/{trainer}/children").read_text().split()):
        time.sleep(0.1)
    return int(children[0])


def measure(log: Path, pid: int, pairs: int, seconds: float) -> tuple[np.ndarray, float]:
    """The ratio of each pair, and the share of a core that the tracker took while it could."""
    medians, used = {True: [], False: []}, 0.0
    _, end = read_step_ms(log, 0)
    for i in range(2 * pairs):
        tracked = i % 4 in (0, 3)  # with and without, then without and with
        os.kill(pid, signal.SIGCONT if tracked else signal.SIGSTOP)
        before = cpu_seconds(pid)
        time.sleep(seconds)
        used += cpu_seconds(pid) - before
        step_ms, end = read_step_ms(log, end)
        medians[tracked].append(np.median(step_ms[1:]))  # the first began before
    return np.divide(medians[True], medians[False]), used / (pairs * seconds)


def main() -> None:
    command = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    command.add_argument("--pairs", type=int, default=60, help="of windows; default: %(default)s")
    command.add_argument("--seconds", type=float, default=3, help="of a window; default: %(default)s")
    command.add_argument("--to", default="tensorboard", help="the tracker; default: %(default)s")
    command.add_argument("--flags", default="--size tiny --B 4 --T 32", help="of the run; default: %(default)s")
    flags = command.parse_args()
    with tempfile.TemporaryDirectory() as name:
        words = [*shlex.split(flags.flags), "--steps", "10000000", "--save-every", "0", "--track", flags.to]
        trainer = subprocess.Popen(
            [sys.executable, "-m", "jaxgpt", "train", *words, "--out", f"{name}/run"],
            env=os.environ | {"PYTHONPATH": str(ROOT)},
            stdout=subprocess.DEVNULL,
        )
        try:
            pid, log = find_tracker(trainer.pid), Path(name, "run", "log.jsonl")
            time.sleep(20)  # the first rows, and the tracker's start
            ratios, share = measure(log, pid, flags.pairs, flags.seconds)
            os.kill(pid, signal.SIGCONT)
            rows = len(read_step_ms(log, 0)[0])
        finally:
            trainer.kill()
            trainer.wait()
    low, middle, high = np.quantile(ratios, [0.25, 0.5, 0.75])
    print(f"a step with {flags.to} takes {middle:.4f} of one without (quartiles {low:.4f} and {high:.4f})")
    print(f"{flags.pairs} pairs of {flags.seconds:g} s, {rows:,} rows; the tracker took {share:.2%} of a core")


if __name__ == "__main__":
    main()
