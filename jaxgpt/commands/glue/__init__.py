"""Fine-tune weights on GLUE's or SuperGLUE's tasks, and measure them: `jaxgpt glue FOLDER --init-from gpt2`."""

import dataclasses
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jaxgpt import console
from jaxgpt.commands import sweep
from jaxgpt.commands.flags import parse
from jaxgpt.commands.glue.config import GlueConfig
from jaxgpt.commands.glue.measure import measure_task
from jaxgpt.data.benchmarks.readers import Item, Split, read_dev, read_test, read_train
from jaxgpt.data.benchmarks.tasks import Task, choose_tasks, read_tasks
from jaxgpt.errors import RetryableError
from jaxgpt.files import owner_only, require_empty, require_separate, write_whole
from jaxgpt.inference.task_metrics import require_scikit_learn
from jaxgpt.locks import hold
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.sweep import SweepRun

MARK = Path("work", "glue.json")  # of a folder of this command


def main(argv: Sequence[str]) -> int:
    config = parse(GlueConfig, argv, command="glue")
    tasks = choose_tasks(read_tasks(config.table), config.folder, config.tasks)
    weights = resolve_weights(config.init_from)
    require_scikit_learn()
    if not (config.out / MARK).is_file():
        require_empty(config.out, except_for=[".lock"])
    inputs = [("FOLDER", config.folder), ("--init-from", config.init_from), ("the weights under it,", weights.base)]
    require_separate("--out", config.out, [*inputs, ("--table", config.table)])
    for task in tasks:  # all of them before anything is written; nothing is kept, since it may take gigabytes
        require_flags(config, task)
        read_splits(config, task)
    with owner_only(config.out), hold(config.out):
        for folder in (MARK.parent, "data", "outputs", "predictions"):
            (config.out / folder).mkdir(exist_ok=True)
        about = {"folder": str(config.folder), "init_from": config.init_from}
        write_whole(config.out / MARK, json.dumps(about) + "\n")
        for task in tasks:
            write_examples(config, task)
        failed = train(config, [run for task in tasks for run in plan_runs(config, task)])
        return report_runs(config, tasks, failed)


def require_flags(config: GlueConfig, task: Task) -> None:
    """Refuse wrong flags; the examples are not written yet, and one line with all fields stands in for them."""
    with tempfile.TemporaryDirectory() as folder:
        (line := Path(folder) / "line.jsonl").write_text('{"text": "a", "label": "b", "score": 1}\n')
        run = plan_runs(config, task)[0]
        run = dataclasses.replace(run, flags=run.flags | {"data": str(line), "val": str(line)})
        sweep.require_trainable(sweep.SweepConfig(spec=config.folder, out=config.out), run)


def read_splits(config: GlueConfig, task: Task) -> dict[str, Split]:
    """All files of a task, by the names of GlueConfig.examples_path."""
    splits = {"train": read_train(task, config.folder)}
    for each in task.sets:
        splits[f"{each.name}-dev"] = read_dev(task, each, config.folder)
        splits[f"{each.name}-test"] = read_test(task, each, config.folder)
    return {name: split for name, split in splits.items() if split is not None}


def write_examples(config: GlueConfig, task: Task) -> None:
    """Write all items of a task as files of examples."""
    (config.out / "data" / task.name).mkdir(exist_ok=True)
    counts = []
    for name, split in read_splits(config, task).items():
        write_items(config.examples_path(task.name, name), task, split)
        counts.append(f"{len(split.items):,} in {name}")
        for note in split.notes:
            console.note(note)
    console.say("task", f"{task.name}: {', '.join(counts)}")


def write_items(path: Path, task: Task, split: Split) -> None:
    def line(item: Item) -> str:
        record = item.record
        if item.label:
            record |= {"score": float(item.label)} if task.range else {"label": item.label}
        return json.dumps(record) + "\n"

    write_whole(path, "".join(map(line, split.items)))


def plan_runs(config: GlueConfig, task: Task) -> list[SweepRun]:
    """A run for each seed: the recipe for labels, the task's flags, and those of the command, which override them."""
    train, dev = (str(config.examples_path(task.name, name)) for name in ("train", f"{task.sets[0].name}-dev"))
    flags = {"recipe": "classify", "init-from": config.init_from, "data": train, "val": dev}
    flags |= {"score-field": "score"} if task.range else {}
    flags |= {name: value for name in ("device", "dtype") if (value := getattr(config, name)) != "auto"}
    flags |= {name.replace("_", "-"): value for name, value in task.flags.items()} | config.chosen_flags
    if "steps" in config.chosen_flags and "epochs" not in config.chosen_flags:
        flags.pop("epochs", None)
    return [SweepRun(task.name, {"seed": seed}, flags | {"seed": seed}) for seed in range(config.seeds)]


def train(config: GlueConfig, runs: Sequence[SweepRun]) -> list[SweepRun]:
    """Train the runs that are not done, as `jaxgpt sweep` does; returns those that failed."""
    sweeping = sweep.SweepConfig(spec=config.folder, out=config.out, workers=config.workers)
    checked = [sweep.require_trainable(sweeping, run) for run in runs]
    wanted = zip(runs, checked, strict=True)
    missing = [(run, flags) for run, flags in wanted if not sweep.is_done(config.out / run.name, flags)]
    if not missing:
        return []
    console.say("glue", f"{config.out}: {console.plural(len(missing), 'run')} of {len(runs):,} to train")
    sweep.train_all(sweeping, [run for run, _ in missing])
    failed = [run for run, flags in missing if not sweep.is_done(config.out / run.name, flags)]
    for run in failed:
        console.note(f"{run.name}: {sweep.read_error(config.out / 'logs' / f'{run.name}.txt')}")
    return failed


def report_runs(config: GlueConfig, tasks: Sequence[Task], failed: Sequence[SweepRun]) -> int:
    """Measure the runs that are done, and print and write the results."""
    from jaxgpt.commands.glue.report import write_tables  # SciPy takes a second

    names = {run.name for run in failed}
    measured = []
    for task in tasks:
        done = {run.values["seed"]: run.name for run in plan_runs(config, task) if run.name not in names}
        if done:
            measured.append((task, measure_task(config, task, done)))
    if measured:
        write_tables(config.out, measured)
    if failed:
        more = f" and {len(failed) - 1} more" if len(failed) > 1 else ""
        raise RetryableError(
            f"{failed[0].name}{more} not done; {config.out}/logs says why, and the same command resumes"
        )
    return 0
