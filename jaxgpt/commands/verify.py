"""Check a run's checkpoints, and prove its resume: `jaxgpt verify runs/default`."""

import dataclasses
import functools
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

from jaxgpt import console, signals
from jaxgpt.commands.flags import parse, positional
from jaxgpt.errors import CheckpointError, CorruptError, DataError, NumericsError, UsageError
from jaxgpt.json_file import read_json
from jaxgpt.locks import hold_to_read
from jaxgpt.progress_bar import stage
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime.config import PROCESS_FLAGS
from jaxgpt.training.config import TrainConfig, unobserved
from jaxgpt.training.resume import load_run_config, resume_command
from jaxgpt.training.rollouts import load_data

TIMINGS = ("step_ms", "tokens_per_s")  # fields in which two rows of equal steps may differ


@dataclasses.dataclass(frozen=True)
class VerifyConfig:
    """Compare every checkpoint of a run with the fingerprints that were saved with it."""

    run: Annotated[Path, *positional("RUN")]
    """A run folder."""
    resume: int = 0
    """Also train 2 * RESUME steps with the run's flags, in a temporary folder, once in one process and once
    resumed in the middle by a new process, and compare bit for bit; 0: don't."""


def main(argv: Sequence[str]) -> int:
    config = parse(VerifyConfig, argv, command="verify")
    if config.resume < 0:
        raise UsageError(f"--resume {config.resume} is out of range: it must be 0 or above")
    flags, starts = load_run_config(config.run)
    # One process, on as many devices as there were last.
    last = {"mesh": starts[-1].get("mesh", flags.parallel.mesh)} | dict.fromkeys(PROCESS_FLAGS)
    flags = flags.replace(**last)
    if config.resume:
        require_same_data(flags, starts[-1]["fingerprint"])
    with hold_to_read(config.run):
        corrupt = check_checkpoints(config.run, flags)
    if config.resume:
        temporary = tempfile.TemporaryDirectory(prefix="jaxgpt-verify-")
        with signals.before_exit(temporary.cleanup), temporary as folder:
            prove_resume(flags, config.resume, Path(folder))
    if corrupt:
        raise CheckpointError(f"{config.run}: {corrupt} corrupt; the run resumes from the newest good one, if any")
    return 0


def require_same_data(flags: TrainConfig, fingerprint: str) -> None:
    """Refuse to train again on other data than those of the run's last start."""
    try:
        data, _ = load_data(flags)
    except DataError as error:
        raise DataError(f"{error}; --resume trains on the run's data again, where they were: bring them back") from None
    if data.fingerprint != fingerprint:
        raise CheckpointError(
            f"--resume trains on the run's data again, and {data.name} has changed: its hash was "
            f"{fingerprint:.16}, and is {data.fingerprint:.16}; bring it back"
        )


def check_checkpoints(run: Path, flags: TrainConfig) -> int:
    """Print whether each checkpoint is ok or corrupt, and return how many are corrupt."""
    import jax

    from jaxgpt.runs.checkpoint import Checkpoints
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device
    from jaxgpt.training.setup import build_trainer, objective_of

    device.select("cpu")  # the bits are the same anywhere
    source = resolve_weights(run)
    if source.base:
        load(source)  # which compares them with the weights that the adapters were trained beside
    target = build_trainer(flags, objective=objective_of(flags, source.data_kind, source.labels)).shapes
    corrupt = 0
    with Checkpoints(run / "checkpoints") as checkpoints, stage("checkpoints", len(checkpoints.steps())) as advance:
        if not checkpoints.steps():
            console.say("none", f"{run}/checkpoints has no checkpoint yet")
        for step in checkpoints.steps():
            try:
                progress = checkpoints.progress(step)
                state = checkpoints.restore(step, target)
                arrays = len(jax.tree.leaves(state))
                console.say("ok", f"{run}/checkpoints/{step}: {arrays} arrays, position {progress.position:,}")
            except CorruptError as error:
                corrupt += 1
                console.say("corrupt", str(error))
            advance(1)
    return corrupt


def prove_resume(flags: TrainConfig, k: int, folder: Path) -> None:
    """Train 2k steps at once, then k steps from the checkpoint in the middle, and compare."""
    whole, parts = folder / "whole", folder / "parts"
    # A better validation loss would save extra checkpoints.
    short = unobserved(flags).replace(steps=2 * k, epochs=None, save_every=k, keep_every=0, eval_every=0)
    run_training(short.replace(out=whole), 2 * k)
    shutil.copytree(whole, parts)
    shutil.rmtree(parts / "checkpoints" / str(2 * k))
    run_training(short.replace(out=parts), k)
    difference = find_difference(whole, parts, 2 * k)
    if difference:
        raise NumericsError(f"{k} + {k} steps are not {2 * k} steps: {difference}; on a GPU try --deterministic")
    console.say("resume", f"{k} + {k} steps in two processes = {2 * k} steps in one: every row and array, bit for bit")


def run_training(flags: TrainConfig, rows: int) -> None:
    """Train in a process of its own, which is to print so many rows."""
    words = shlex.split(resume_command(flags).removeprefix(console.program("train")))
    console.say("training", f"{flags.run.steps} steps in {flags.run.out}")
    command = [sys.executable, "-m", "jaxgpt", "train", *words]
    with tempfile.TemporaryFile("w+") as stderr, stage("steps", rows) as advance:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=stderr, text=True)
        with signals.before_exit(functools.partial(end_process, process)), process:
            for line in process.stdout:
                advance(line.partition("|")[0].strip().isdecimal())  # a row
        stderr.seek(0)
        errors = stderr.read()
    if process.returncode:
        message = (errors.strip().splitlines() or ["it printed nothing"])[-1].removeprefix("error: ")
        kind = UsageError if process.returncode == UsageError.exit_code else CheckpointError
        raise kind(f"training ended with code {process.returncode}: {message}")


def end_process(process: subprocess.Popen) -> None:
    process.kill()
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # process.wait() takes a lock


def find_difference(a: Path, b: Path, step: int) -> str:
    """The first difference of two runs, in a row of their logs or in an array of a checkpoint; "" if there is none."""
    a_rows, b_rows = _rows(a), _rows(b)
    for n in sorted(a_rows.keys() | b_rows.keys()):
        if a_rows.get(n) != b_rows.get(n):
            return f"the rows of step {n} differ: {a_rows.get(n)} and {b_rows.get(n)}"
    a_values, b_values = (_fingerprint(run, step) for run in (a, b))
    return "".join([f"{name} differs" for name in a_values if a_values[name] != b_values[name]][:1])


def _rows(run: Path) -> dict[int, dict[str, Any]]:
    rows = read_rows(run / "log.jsonl")
    return {n: {name: value for name, value in row.items() if name not in TIMINGS} for n, row in rows.items()}


def _fingerprint(run: Path, step: int) -> dict[str, str]:
    return read_json(run / "checkpoints" / str(step) / "progress" / "metadata")["fingerprint"]
