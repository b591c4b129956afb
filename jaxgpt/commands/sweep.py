"""Train runs of every combination of some flags, and compare them: `jaxgpt sweep SPEC.toml --out FOLDER`."""

import concurrent.futures
import dataclasses
import importlib.util
import json
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.commands.flags import parse, positional
from jaxgpt.errors import JaxgptError, RetryableError, UsageError, require
from jaxgpt.files import owner_only, require_empty, require_separate, write_whole
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.locks import hold
from jaxgpt.processes import run_command, wait_for_workers
from jaxgpt.progress_bar import stage
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import load_run_config
from jaxgpt.training.sweep import SweepRun, read_sweep, require_same_run

if TYPE_CHECKING:  # NumPy and SciPy are imported when the flags are known to be right
    from jaxgpt.reports.logged_run import LoggedRun
    from jaxgpt.reports.sweep_tables import Result

TABLE, RESULTS, MARK = "table.md", "results.json", Path("work", "sweep.toml")  # the mark of a sweep's folder
PARTS = (TABLE, RESULTS, "work", "logs")


@dataclasses.dataclass(frozen=True)
class SweepConfig:
    """Train a run for every combination of the flags in a file, several at a time, and compare what they reach.

    Run the same command again to resume: runs that are done stay as they are.
    """

    spec: Annotated[Path, *positional("SPEC")]
    """A TOML file: [flags] of all runs; [grid], lists of values; [rows.NAME], flags that belong together."""
    out: Path = Path("runs/sweep")
    """A folder for the runs, table.md and results.json."""
    workers: int = 1
    """Runs at a time; those of one GPU share its memory."""
    executor: Literal["local", "slurm", "ray"] = "local"
    """Where they run; on a cluster --out and the data must be shared."""
    sbatch: tuple[str, ...] = ()
    """Options for SLURM: partition=... time=... and others of sbatch."""
    forecast: tuple[str, ...] = ()
    """Fit a scaling law to the runs, and tell its loss for PARAMETERS,TOKENS, such as 1e9,2e10."""
    dry_run: bool = False
    """Print the commands, and train nothing."""

    def __post_init__(self):
        require(1 <= self.workers <= 4096, "workers", self.workers, "from 1 to 4,096")
        if bad := [option for option in self.sbatch if "=" not in option]:
            raise UsageError(f"--sbatch {bad[0]}: use NAME=VALUE, such as partition=gpu")
        if self.sbatch and self.executor != "slurm":
            raise UsageError("--sbatch needs --executor slurm")
        for text in self.forecast:
            try:
                numbers = [*map(float, text.split(","))]
            except ValueError:
                numbers = []
            if len(numbers) != 2 or not all(1 <= number < math.inf for number in numbers):
                raise UsageError(f"--forecast {text}: give PARAMETERS,TOKENS, such as 1e9,2e10")


def main(argv: Sequence[str]) -> int:
    config = parse(SweepConfig, argv, command="sweep")
    runs = read_sweep(config.spec)
    checked = [require_trainable(config, run) for run in runs]
    if config.dry_run:
        for run in runs:
            print(f"{console.program('train')} {shlex.join([*run.words, f'--out={config.out / run.name}'])}")
        return 0
    if config.executor != "local":
        require_tasks(config)
    if not (config.out / MARK).is_file():
        require_empty(config.out, except_for=[".lock"])
    require_separate("--out", config.out, [("SPEC", config.spec)], parts=PARTS)
    content = config.spec.read_text(encoding="utf-8-sig")
    with owner_only(config.out), hold(config.out):
        missing = [run for run, wanted in zip(runs, checked, strict=True) if not is_done(config.out / run.name, wanted)]
        (config.out / MARK).parent.mkdir(exist_ok=True)
        write_whole(config.out / MARK, content)
        console.say("sweep", f"{config.out}: {console.plural(len(runs), 'run')}")
        if missing:
            train_all(config, missing)
        return report(config, runs)


def require_trainable(config: SweepConfig, run: SweepRun) -> TrainConfig:
    """The flags of a run; refuses wrong ones before any run begins."""
    try:
        checked, _ = train.read_config([*run.words, f"--out={config.out / run.name}"])
        if checked.data.val is None:
            raise UsageError("runs are compared by their validation loss; set val in [flags]")
    except JaxgptError as error:
        raise type(error)(f"{config.spec}, {run.name}: {error}") from None
    return checked


def require_tasks(config: SweepConfig) -> None:
    if importlib.util.find_spec("datatrove") is None:
        raise UsageError(f"--executor {config.executor} needs datatrove: pip install -r requirements-data.txt")
    from jaxgpt.prepare.tasks import require_executor

    require_executor(config.executor, config.sbatch)


def load(folder: Path) -> "LoggedRun | None":
    """A run, if it has begun."""
    from jaxgpt.reports.logged_run import load_runs

    return load_runs([folder])[0] if (folder / "config.json").is_file() else None


def is_done(folder: Path, wanted: TrainConfig) -> bool:
    """Whether a run has all steps; DataError if it is one of other flags or of another text."""
    run = load(folder)
    if run is None or run.steps_done < (wanted.run.steps if wanted.run.epochs is None else run.config["steps"]):
        return False
    saved, starts = load_run_config(folder)
    require_same_run(folder, saved, starts[-1]["fingerprint"], run.config.get("tokenizer_sha256"), wanted)
    return True


def train_all(config: SweepConfig, runs: Sequence[SweepRun]) -> None:
    """Train runs, `workers` at a time, each to its end or to an error, which its file in logs/ has."""
    work, logs = config.out.resolve() / "work", config.out.resolve() / "logs"
    for folder in (work, logs):
        folder.mkdir(exist_ok=True)
    wait_for_workers(lock := work / "workers")
    commands = [
        [sys.executable, "-m", "jaxgpt", "train", *run.words, f"--out={config.out.resolve() / run.name}"]
        for run in runs
    ]
    outputs = [logs / f"{run.name}.txt" for run in runs]
    with stage("runs", len(runs)) as done:
        if config.executor == "local":
            train_here(commands, outputs, lock, config.workers, done)
            return
        from jaxgpt.prepare import slurm
        from jaxgpt.prepare.tasks import RunCommands, open_executor

        slurm.wait_for_jobs(work, console.say)
        for mark in (work / "stages" / "train" / "completions").glob("*"):
            mark.unlink()  # of an earlier start: these runs are not done
        with open_executor(config.executor, config.workers, config.sbatch, work) as execute:
            execute([RunCommands(commands, outputs, lock)], len(runs), work / "stages" / "train", done)


def train_here(
    commands: Sequence[Sequence[str]], outputs: Sequence[Path], lock: Path, workers: int, done: Callable[[float], None]
) -> None:
    with concurrent.futures.ThreadPoolExecutor(workers) as pool:
        futures = [
            pool.submit(run_command, command, Path.cwd(), output, lock)
            for command, output in zip(commands, outputs, strict=True)
        ]
        for future in concurrent.futures.as_completed(futures):
            future.result()
            done(1)


def report(config: SweepConfig, runs: Sequence[SweepRun]) -> int:
    """Print and write what the runs have reached; the exit code."""
    from jaxgpt.reports.sweep_tables import read_result

    finished, failed = [], []
    for run in runs:
        loaded = load(config.out / run.name)
        if loaded is not None and loaded.is_done:
            parameters = count_parameters(config.out / run.name)
            finished.append(read_result(run.row, run.values, parameters, loaded))
        else:
            failed.append(run)
            console.note(f"{run.name}: {read_error(config.out / 'logs' / f'{run.name}.txt')}")
    if finished:
        write_tables(config, runs, finished)
    if failed:
        names = f"{failed[0].name}{f' and {len(failed) - 1} more' if len(failed) > 1 else ''}"
        raise RetryableError(
            f"{names} of {console.plural(len(runs), 'run')} not done; {config.out}/logs says why, and the same command "
            "resumes"
        )
    return 0


def write_tables(config: SweepConfig, runs: Sequence[SweepRun], finished: "Sequence[Result]") -> None:
    from jaxgpt.reports import sweep_tables

    lines = sweep_tables.summarize(finished)
    tables, results = {"Runs": sweep_tables.render(lines)}, {"runs": lines}
    rates = [*dict.fromkeys(run.values["lr"] for run in runs if "lr" in run.values)]
    if rates:
        best = results["best"] = sweep_tables.choose_learning_rates(lines, rates)
        tables["The best learning rates"] = sweep_tables.render(best)
    law = None
    if config.forecast:
        forecasts = [tuple(map(float, text.split(","))) for text in config.forecast]
        try:
            law = results["scaling"] = sweep_tables.fit_scaling_law(lines, forecasts)
        except ValueError as error:
            raise UsageError(f"--forecast: {error}; leave it out, or add runs") from None
        tables["Scaling law"] = "".join(f"- {line}\n" for line in sweep_tables.describe_law(law))
    text = "\n".join(f"## {title}\n\n{table}" for title, table in tables.items())
    print(console.escape(text, keep="\n"))
    write_whole(config.out / TABLE, text)
    write_whole(config.out / RESULTS, json.dumps(replace_nonfinite(results), indent=2) + "\n")
    console.say("saved", f"{config.out / TABLE}, {config.out / RESULTS}")


def count_parameters(folder: Path) -> int:
    import jax

    from jaxgpt.models.base import shapes
    from jaxgpt.runs.weights import resolve_weights

    return sum(leaf.size for leaf in jax.tree.leaves(shapes(resolve_weights(str(folder)).config)))


def read_error(output: Path) -> str:
    """The error that a run has ended with."""
    try:
        lines = output.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return "has not begun"
    return next((line for line in reversed(lines) if line.startswith("error: ")), "was ended")
