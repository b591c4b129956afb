"""Check a run's checkpoints, and prove its resume: `jaxgpt verify runs/default`."""

import dataclasses
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxgpt import console
from jaxgpt.commands.flags import parse, place
from jaxgpt.errors import CheckpointError, CorruptError, NumericsError, UsageError
from jaxgpt.runs.folder import RunLock
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime.config import PROCESS_FLAGS
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import load_run_config, resume_command

CLOCK = ("step_ms", "tokens_per_s")  # what two rows of equal steps may differ in


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Hold every checkpoint of a run to the fingerprints that were saved with it."""

    run: Annotated[Path, *place("RUN")]
    """A run folder of train.py."""
    resume: int = 0
    """Also train 2 * RESUME steps with the run's flags, in a temporary folder, once whole and once from the middle on
    in a new process, and compare to the bit; 0: don't."""


def main(argv: Sequence[str]) -> int:
    config = parse(VerifyConfig, argv, command="verify")
    if config.resume < 0:
        raise UsageError(f"--resume {config.resume} is out of range: it must be 0 or above")
    flags, starts = load_run_config(config.run)
    # One process, on as many devices as there were last.
    last = {"mesh": starts[-1].get("mesh", flags.parallel.mesh)} | dict.fromkeys(PROCESS_FLAGS)
    flags = flags.replace(**last)
    with RunLock(config.run):
        corrupt = check(config.run, flags)
    if config.resume:
        with tempfile.TemporaryDirectory(prefix="jaxgpt-verify-") as folder:
            prove_resume(flags, config.resume, Path(folder))
    if corrupt:
        raise CheckpointError(f"{config.run}: {corrupt} corrupt; train.py resumes from the newest good one, if any")
    return 0


def check(run: Path, flags: TrainConfig) -> int:
    """Print what holds for each checkpoint, and return how many are corrupt."""
    import jax

    from jaxgpt.objectives import choose_objective
    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device
    from jaxgpt.training.setup import build_trainer

    device.select("cpu")  # the bits are the same anywhere
    source = resolve_weights(run)
    if source.base:
        load(source)  # which is held to the weights that the adapters were trained beside
    tokens = flags.preset.predict_tokens
    objective = choose_objective(source.data_kind, flags.run.objective, len(source.labels), tokens)
    like = build_trainer(flags, objective=objective).shapes
    corrupt = 0
    with Checkpoints(run / "checkpoints") as checkpoints:
        if not checkpoints.steps():
            print(f"none      {run}/checkpoints has no checkpoint yet")
        for step in checkpoints.steps():
            try:
                progress = checkpoints.progress(step)
                state = checkpoints.restore(step, like)
                arrays = len(jax.tree.leaves(state))
                print(
                    f"ok        {run}/checkpoints/{step}: {arrays} arrays, position {progress.position:,}", flush=True
                )
            except CorruptError as error:
                corrupt += 1
                print(f"corrupt   {error}", flush=True)
    return corrupt


def prove_resume(flags: TrainConfig, k: int, folder: Path) -> None:
    """Train 2k steps at once, and k steps more from the checkpoint in their middle, and compare."""
    whole, parts = folder / "whole", folder / "parts"
    # A better validation loss would make checkpoints of its own.
    short = flags.replace(steps=2 * k, epochs=None, save_every=k, eval_every=0)
    train(short.replace(out=whole))
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / str(2 * k))
    train(short.replace(out=parts))
    differing = differences(whole, parts, 2 * k)
    if differing:
        raise NumericsError(f"{k} + {k} steps are not {2 * k} steps: {differing}; on a GPU try --deterministic")
    print(f"resume    {k} + {k} steps in two processes = {2 * k} steps in one: every row and array, to the bit")


def train(flags: TrainConfig) -> None:
    words = shlex.split(resume_command(flags).removeprefix(console.program("train")))
    print(f"training  {flags.run.steps} steps in {flags.run.out}", flush=True)
    done = subprocess.run([sys.executable, "-m", "jaxgpt", "train", *words], capture_output=True, text=True)
    if done.returncode:
        complaint = (done.stderr.strip().splitlines() or ["it said nothing"])[-1].removeprefix("error: ")
        kind = UsageError if done.returncode == UsageError.exit_code else CheckpointError
        raise kind(f"training ended with code {done.returncode}: {complaint}")


def differences(a: Path, b: Path, step: int) -> str:
    """Where two runs part: the first row of their logs, or the first array of a checkpoint; "" if nowhere."""
    for mine, theirs in zip(_rows(a), _rows(b), strict=True):
        if mine != theirs:
            return f"the rows of step {mine['step']} differ: {mine} and {theirs}"
    mine, theirs = (_fingerprint(run, step) for run in (a, b))
    return "".join([f"{name} differs" for name in mine if mine[name] != theirs[name]][:1])


def _rows(run: Path) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in CLOCK} for row in rows]


def _fingerprint(run: Path, step: int) -> dict[str, str]:
    return json.loads((run / "checkpoints" / str(step) / "progress" / "metadata").read_text())["fingerprint"]
