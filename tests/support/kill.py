"""Kill a training run with SIGKILL at random moments, again and again, and hold what comes out to an undisturbed run.

python tests/support/kill.py --kills 30

The model is tiny, the processes and the signals are real. Some kills come while JAX starts or compiles, the others at
any moment of steps, saves and renames: a checkpoint is written nearly all the time. In the end the log, but for its
clock, and every byte of the parameters and the optimizer must be those of the run that nobody killed.
"""

import dataclasses
import json
import random
import re
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

SCRIPT = Path(__file__).parents[2] / "train.py"
TEXT = " ".join(f"word{n % 7}" for n in range(820)) + "\n"


@dataclasses.dataclass
class Flags:
    """Kill a run at random moments and compare its result with an undisturbed one's."""

    kills: int = 30
    """SIGKILLs."""
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


if __name__ == "__main__":
    flags = tyro.cli(Flags)
    with tempfile.TemporaryDirectory() as name:
        print("the same to the bit:", survive(Path(name), flags.kills, flags.seed))
