"""Disturb commands at random moments, again and again, and hold what comes out to what undisturbed ones make.

python -m tests.support.kill --trials 200

There are four kinds: SIGKILL; SIGTERM; SIGSTOP, and SIGCONT a while later; and a power cut, which is SIGKILL of all
processes, after which only what was synced is sure to be there (tests/support/power.py). The models are tiny, the
processes and the signals are real.

The first part is training runs: on a text, on examples, and of a classifier and of adapters with a validation split.
Some moments are while JAX starts or compiles, the others any of steps, saves and renames: a checkpoint is written
nearly all the time. In the end the log, but for its clock, and every byte of the parameters and the optimizer must be
those of the undisturbed run.

The second part is the commands that write something: each time their inputs are as they were, byte for byte, and the
output is whole or not there; the same command then makes what an undisturbed one makes.
"""

import collections
import contextlib
import dataclasses
import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import warnings
from pathlib import Path

import jax
import numpy as np
import orbax.checkpoint as ocp
import tyro

from tests.support import refusals
from tests.support.power import Disk

SCRIPT = Path(__file__).parents[2] / "train.py"
KINDS = ("kill", "term", "stop", "power")
SHAPE = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 32"
RUNS = {  # training runs: their words
    "train": f"{SHAPE} --data words.txt",
    "examples": f"{SHAPE} --data examples.jsonl",
    "classify": f"{SHAPE} --data labels.jsonl --val 0.2 --eval-every 3",
    "lora": "--init-from base --lora 2 --data words.txt --val 0.2 --eval-every 3",
}
COMMANDS = {  # what else writes something: its words, and the output
    "prepare": ("prepare corpus --out disk/made --val 0.3 --workers 2", "made"),
    "predict": ("predict labels --data labels.csv --out disk/made.jsonl --device cpu", "made.jsonl"),
    "export": ("export text disk/made", "made"),
    "evaluate": ("evaluate text --data text.txt --json disk/made.json --device cpu", "made.json"),
}
LAST = {"prepare": "meta.json", "export": "config.json"}  # a folder is whole when this is there, and may be made again
TEXT = " ".join(f"word{n % 7}" for n in range(820)) + "\n"
EXAMPLES = "".join(json.dumps({"prompt": f"word{n}", "completion": f" word{n + 1}"}) + "\n" for n in range(40))
LABELS = "".join(json.dumps({"text": f"word{n} and {n % 3}", "label": f"class {n % 3}"}) + "\n" for n in range(60))


@dataclasses.dataclass
class Flags:
    """Disturb commands at random moments and compare their results with undisturbed ones'."""

    trials: int = 200
    """Disturbances, of all kinds and commands together."""
    only: tuple[str, ...] = (*RUNS, *COMMANDS)
    """The commands."""
    kinds: tuple[str, ...] = KINDS
    """The kinds of disturbances."""
    seed: int = 0
    """Of their moments."""


class Target:
    """A command that is started in a folder again and again, and writes into its subfolder `disk`."""

    def __init__(self, folder: Path, command: list[str], kinds: tuple[str, ...]):
        self.folder, self.command = folder, command
        (folder / "disk").mkdir(exist_ok=True)
        self.disk = Disk(folder / "store")
        self.disk.sync_all(folder / "disk")
        self.environment = {"PYTHONPATH": str(SCRIPT.parent)}
        if "power" in kinds:
            self.environment = self.disk.environment()

    def start(self) -> subprocess.Popen:
        process = {"cwd": self.folder, "env": os.environ | self.environment, "text": True}
        return subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **process)

    def run(self) -> str:
        """Run it to its end; its output."""
        with self.start() as process:
            out, errors = process.communicate()
        assert process.returncode == 0, errors
        return out

    def disturb(self, process: subprocess.Popen, kind: str, draw: random.Random) -> None:
        """Disturb a process; afterwards it has ended, or will come to its end undisturbed if it was only stopped."""
        if kind == "stop":
            process.send_signal(signal.SIGSTOP)
            time.sleep(draw.uniform(0, 2))
            process.send_signal(signal.SIGCONT)
            return
        process.terminate() if kind == "term" else process.kill()
        _, errors = process.communicate(timeout=300)  # which waits for workers that outlive it a moment
        assert process.returncode in ((0, 143, -signal.SIGTERM) if kind == "term" else (0, -signal.SIGKILL)), errors
        assert "Traceback" not in errors, errors
        if kind == "power":
            self.disk.cut_power(self.folder / "disk", draw)


def survive(
    folder: Path, trials: int, seed: int = 0, name: str = "train", kinds: tuple[str, ...] = ("kill",)
) -> collections.Counter:
    """Run one of RUNS to its end with and without disturbances, and assert that the results are the same.

    Args:
      folder: has base/, if the run begins with it.

    Returns:
      How many there were of each kind, and of these: `starting`, before the first step of the process; `saving`, with a
      checkpoint half written; `further`, with a newer checkpoint than before.
    """
    draw, count, steps = random.Random(f"{name} {seed}"), collections.Counter(), 24 * trials
    (folder / "words.txt").write_text(TEXT)
    (folder / "examples.jsonl").write_text(EXAMPLES)
    (folder / "labels.jsonl").write_text(LABELS)
    words = f"{RUNS[name]} --B 2 --T 16 --device cpu --recipe gpt3 --steps {steps} --save-every 2 --hash-every 1 --out"
    command = [sys.executable, str(SCRIPT), *words.split()]
    Target(folder, [*command, "whole"], ()).run()
    target, out, newest = Target(folder, [*command, "disk/made"], kinds), folder / "disk" / "made", 0
    for kind in (kinds * trials)[:trials]:
        with target.start() as process:
            starting = draw.random() < 0.15
            read_rows(process, 0 if starting else draw.randint(1, 20))  # in which up to ten checkpoints are begun
            time.sleep(draw.uniform(0, 3 if starting else 0.1))
            half = list((out / "checkpoints").glob("*orbax-checkpoint-tmp*"))
            target.disturb(process, kind, draw)
            if kind == "stop":
                read_rows(process, 1)
                target.disturb(process, "kill", draw)
        steps_saved = [int(path.name) for path in (out / "checkpoints").glob("*") if path.name.isdecimal()]
        before, newest = newest, max(steps_saved, default=0)
        count.update({kind: 1, "starting": starting, "saving": bool(half), "further": newest > before})
    output = target.run()
    assert "power" in kinds or "corrupt" not in output
    whole, killed = numbers(folder / "whole"), numbers(out)
    assert [row["step"] for row in killed] == list(range(steps))  # no batch was lost, and none was taken twice
    assert killed == whole
    assert saved_bits(out, steps) == saved_bits(folder / "whole", steps)
    return count


def read_rows(process: subprocess.Popen, rows: int) -> None:
    """Wait until a run has printed so many rows."""
    while rows:
        line = process.stdout.readline()
        assert line, f"the run has ended: {process.stderr.read()}"
        rows -= bool(re.match(r" +\d+ \|", line))


def numbers(out: Path) -> list[dict]:
    """The part of a run's log that does not depend on the clock."""
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if "_ms" not in name and "per_s" not in name} for row in rows]


def saved_bits(out: Path, step: int) -> dict[str, bytes]:
    """Every byte of the arrays of a checkpoint, read with orbax alone."""
    with warnings.catch_warnings(), ocp.PyTreeCheckpointer() as checkpointer:
        warnings.filterwarnings("ignore", "Sharding info not provided")
        tree = checkpointer.restore((out / "checkpoints" / str(step) / "state").absolute())
    return {
        jax.tree_util.keystr(path): np.asarray(x).tobytes() for path, x in jax.tree_util.tree_leaves_with_path(tree)
    }


def survive_command(
    folder: Path, name: str, trials: int, seed: int = 0, kinds: tuple[str, ...] = ("kill",)
) -> collections.Counter:
    """Disturb a command of COMMANDS, and assert that nothing is lost.

    Args:
      folder: filled by refusals.fill.

    Returns:
      How many there were of each kind, and of these: `absent`, without an output; `whole`, with one that was just
      written; `useful`, with a part done that the next start continues from.
    """
    words, output = COMMANDS[name]
    draw, count, inputs = random.Random(f"{name} {seed}"), collections.Counter(), content(folder)
    target, out = Target(folder, [sys.executable, "-m", "jaxgpt", *words.split()], kinds), folder / "disk" / output
    target.run()
    delete(out)
    started = time.monotonic()
    target.run()
    duration, expected = time.monotonic() - started, content(out)  # when its programs are compiled

    def start_over() -> None:
        delete(out)
        target.disk.sync_all(folder / "disk")

    start_over()
    while (done := sum(count[kind] for kind in kinds)) < trials:
        kind = kinds[done % len(kinds)]
        with target.start() as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(draw.uniform(0, duration))
            in_time = process.poll() is None
            target.disturb(process, kind, draw)
            process.communicate()
        if process.returncode == 0:
            if kind == "power" and name in LAST:
                target.run()  # which deletes a work folder whose deletion did not reach the disk
            assert content(out) == expected
            start_over()
            count[kind] += kind == "stop" and in_time
            continue
        whole = out.is_file() or (out / LAST.get(name, "")).exists()
        useful = any((out / "work" / "stages").glob("*/completions/*"))
        count.update({kind: 1, "whole" if whole else "absent": 1, "useful": useful})
        assert content(folder).items() >= inputs.items()
        if whole:
            if name in LAST:
                target.run()  # "is prepared already"
            assert content(out) == expected
            start_over()
    if not out.is_file() and not (out / LAST.get(name, "")).exists():
        target.run()
    assert content(out) == expected
    assert content(folder).items() >= inputs.items()
    delete(out)
    assert name == "prepare" or not list((folder / "disk").iterdir())  # nothing is left beside it
    return count


def content(path: Path) -> dict[str, bytes]:
    """The bytes of every file at and below a path, but for locks, by its name there."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.name != ".lock"}


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


if __name__ == "__main__":
    flags = tyro.cli(Flags)
    for number, name in enumerate(flags.only):
        trials = (flags.trials + number) // len(flags.only)
        with tempfile.TemporaryDirectory() as folder:
            refusals.fill(Path(folder))
            if name in RUNS:
                count = survive(Path(folder), trials, flags.seed, name, flags.kinds)
            else:
                count = survive_command(Path(folder), name, trials, flags.seed, flags.kinds)
        print(f"{name}: nothing lost, the same to the bit: {dict(count)}", flush=True)
