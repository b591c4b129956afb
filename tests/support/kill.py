"""Kill commands with SIGKILL at random moments, again and again, and hold what comes out to undisturbed ones.

python -m tests.support.kill --kills 30

The first part is a training run. The model is tiny, the processes and the signals are real. Some kills come while JAX
starts or compiles, the others at any moment of steps, saves and renames: a checkpoint is written nearly all the time.
In the end the log, but for its clock, and every byte of the parameters and the optimizer must be those of the run that
nobody killed.

The second part is the commands that write something: after each kill their inputs are as they were, byte for byte, and
the output is whole or not there; the same command then makes what an undisturbed one makes.
"""

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

SCRIPT = Path(__file__).parents[2] / "train.py"
COMMANDS = {  # what writes something: its words, and the output
    "prepare": ("prepare corpus --out made --val 0.3 --workers 2", "made"),
    "predict": ("predict labels --data labels.csv --out made.jsonl --device cpu", "made.jsonl"),
    "export": ("export text made", "made"),
    "evaluate": ("evaluate text --data text.txt --json made.json --device cpu", "made.json"),
}
LAST = {"prepare": "meta.json"}  # a folder is whole when this is there; of others, when the folder is
TEXT = " ".join(f"word{n % 7}" for n in range(820)) + "\n"


@dataclasses.dataclass
class Flags:
    """Kill commands at random moments and compare their results with undisturbed ones'."""

    kills: int = 30
    """SIGKILLs of a training run, and of each other command."""
    only: tuple[str, ...] = ("train", *COMMANDS)
    """The commands."""
    seed: int = 0
    """Of their moments."""


def survive(folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """Run train.py to its end with and without kills, and assert that the results are the same.

    Returns:
      `kills`, and of these: `starting`, before the first step of the process; `saving`, with a checkpoint half written;
      `further`, with a newer checkpoint than the kill before.
    """
    draw, count = random.Random(seed), {"kills": 0, "starting": 0, "saving": 0, "further": 0}
    text, steps = folder / "text.txt", 24 * kills
    text.write_text(TEXT)
    words = ["--n-layer", 2, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--B", 2, "--T", 16]
    words += ["--data", text, "--device", "cpu"]
    words += ["--steps", steps, "--save-every", 2, "--hash-every", 1, "--recipe", "gpt3"]
    command = [sys.executable, str(SCRIPT), *map(str, words), "--out"]
    done = subprocess.run([*command, str(folder / "whole")], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    checkpoints, newest = folder / "killed" / "checkpoints", 0
    while count["kills"] < kills:
        with subprocess.Popen([*command, str(folder / "killed")], stdout=subprocess.PIPE, text=True) as process:
            starting = draw.random() < 0.15
            rows = 0 if starting else draw.randint(1, 20)  # in which up to ten checkpoints are begun
            while rows:
                line = process.stdout.readline()
                assert line, f"the run ended after {count['kills']} kills"
                rows -= bool(re.match(r" +\d+ \|", line))
            time.sleep(draw.uniform(0, 3 if starting else 0.1))
            half = list(checkpoints.glob("*orbax-checkpoint-tmp*"))
            process.kill()
        steps_saved = [int(path.name) for path in checkpoints.glob("*") if path.name.isdecimal()]
        before, newest = newest, max(steps_saved, default=0)
        count["further"] += newest > before
        count["kills"] += 1
        count["starting"] += starting
        count["saving"] += bool(half)
    done = subprocess.run([*command, str(folder / "killed")], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert "corrupt" not in done.stdout
    whole, killed = numbers(folder / "whole"), numbers(folder / "killed")
    assert [row["step"] for row in killed] == list(range(steps))  # no batch was lost, and none was taken twice
    assert killed == whole
    assert saved_bits(folder / "killed", steps) == saved_bits(folder / "whole", steps)
    return count


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


def survive_command(folder: Path, name: str, kills: int, seed: int = 0) -> dict[str, int]:
    """Kill a command of COMMANDS, and assert that nothing is lost.

    Args:
      folder: filled by refusals.fill.

    Returns:
      `kills`, and of these: `absent`, without an output; `whole`, with one that was just written; `useful`, with a part
      done that the next start continues from.
    """
    words, output = COMMANDS[name]
    out, draw, count = folder / output, random.Random(seed), {"kills": 0, "absent": 0, "whole": 0, "useful": 0}
    command = [sys.executable, "-m", "jaxgpt", *words.split()]
    process = {"cwd": folder, "stdout": subprocess.DEVNULL, "stderr": subprocess.PIPE, "text": True}
    process["env"] = os.environ | {"PYTHONPATH": str(SCRIPT.parent)}

    def run_to_its_end() -> float:
        started = time.monotonic()
        done = subprocess.run(command, **process)
        assert done.returncode == 0, done.stderr
        return time.monotonic() - started

    inputs = content(folder)
    run_to_its_end()
    delete(out)
    duration = run_to_its_end()  # when its programs are compiled
    expected = content(out)
    delete(out)
    while count["kills"] < kills:
        with subprocess.Popen(command, **process) as killed:
            with contextlib.suppress(subprocess.TimeoutExpired):
                killed.wait(draw.uniform(0, duration))
            killed.kill()
            killed.stderr.read()  # until workers that outlive it a moment have ended
        if killed.returncode != -signal.SIGKILL:
            assert killed.returncode == 0
            assert content(out) == expected
            delete(out)
            continue
        count["kills"] += 1
        whole = out.is_file() or (out / LAST.get(name, "")).exists()
        count["whole" if whole else "absent"] += 1
        count["useful"] += any((out / "work" / "stages").glob("*/completions/*"))
        assert {path: each for path, each in content(folder).items() if path in inputs} == inputs
        if whole:
            run_again = name == "prepare" and subprocess.run(command, **process)  # "is prepared already"
            assert not run_again or run_again.returncode == 0
            assert content(out) == expected
            delete(out)
    if not out.exists() or not (out.is_file() or (out / LAST.get(name, "")).exists()):
        run_to_its_end()
    assert content(out) == expected
    assert {path: each for path, each in content(folder).items() if path in inputs} == inputs
    delete(out)
    return count


def content(path: Path) -> dict[str, bytes]:
    """The bytes of every file at and below a path, but for locks, by its name there."""
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return {str(file.relative_to(path)): file.read_bytes() for file in files if file.name != ".lock"}


def delete(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


if __name__ == "__main__":
    flags = tyro.cli(Flags)
    for name in flags.only:
        with tempfile.TemporaryDirectory() as folder:
            if name == "train":
                print("train: the same to the bit:", survive(Path(folder), flags.kills, flags.seed), flush=True)
            else:
                refusals.fill(Path(folder))
                print(
                    f"{name}: nothing lost:", survive_command(Path(folder), name, flags.kills, flags.seed), flush=True
                )
