"""The table of a benchmark's tasks: their files, which fields are texts and labels, and their metrics."""

import dataclasses
import re
import tomllib
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.data.benchmarks.nested import RECORDS
from jaxgpt.data.records import read_content
from jaxgpt.errors import DataError, UsageError

BUILT_IN = Path(__file__).with_name("tasks.toml")
FORMATS = ("tsv", "jsonl")
LABEL_METRICS, RANGE_METRICS = ("accuracy", "f1", "f1_macro", "matthews"), ("pearson", "spearman")
OTHER_METRICS = {"multirc": (*LABEL_METRICS, "question_exact"), "record": ("answer_exact", "answer_f1")}


@dataclasses.dataclass(frozen=True)
class EvaluationSet:
    """What a task is measured on.

    Attributes:
      name: that of its file of predictions.
      texts, metrics: as those of Task.
      dev: its file with labels; of several, the first that exists.
      test: its file without labels; likewise.
      diagnostic: whether it may be missing, and does not count in the average.
    """

    name: str
    texts: tuple[str, ...]
    metrics: tuple[str, ...]
    dev: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    diagnostic: bool = False


@dataclasses.dataclass(frozen=True)
class Task:
    """A task, whose files are in a folder of its name.

    Attributes:
      benchmark: in whose average it counts.
      train: the file to train on; of several, the first that exists.
      texts: what a model reads: templates of one text or two, with a record's fields in braces.
      metrics: their mean is the task's score.
      label: the field of the label.
      labels: all labels, of which F1 takes the last as positive; empty for choices and a range.
      range: the lowest and the highest number, for a task of numbers.
      columns: the columns' names in files with labels, if these have no header.
      index: the field that identifies a record in predictions; without it, the record's number in the file does.
      key, dev_ids: fields that identify a record of `dev`, so that it is not trained on; and a file of them in place of
        `dev`.
      skip_label: a label whose records are skipped.
      skip_short: whether rows with too few columns are skipped; else they are an error.
      records: the name of a function in nested.RECORDS, for nested records.
      choices: fields, one of which is right; the label is its number, from 0.
      negatives: the most wrong choices of a question to train on; None: all.
      predictions: the format of predictions, one of FORMATS.
      written: how predictions spell labels, if not as they are read.
      flags: of `jaxgpt train`.
    """

    benchmark: str
    name: str
    train: tuple[str, ...]
    texts: tuple[str, ...]
    metrics: tuple[str, ...]
    sets: tuple[EvaluationSet, ...]
    label: str = "label"
    labels: tuple[str, ...] = ()
    range: tuple[float, float] | None = None
    columns: tuple[str, ...] = ()
    index: str = "index"
    key: tuple[str, ...] = ()
    dev_ids: str | None = None
    skip_label: str | None = None
    skip_short: bool = False
    records: str | None = None
    choices: tuple[str, ...] = ()
    negatives: int | None = None
    predictions: str = "tsv"
    written: Mapping[str, str] = dataclasses.field(default_factory=dict)
    flags: Mapping[str, Any] = dataclasses.field(default_factory=dict)

    @property
    def is_choice(self) -> bool:
        """Whether one of several texts is chosen; each is classified as true or false."""
        return bool(self.choices) or self.records == "record"


def read_tasks(path: Path | None = None) -> list[Task]:
    """The tasks of GLUE and SuperGLUE, and those of another table, which replace any of the same name.

    Raises:
      DataError: the table can't be read, or a task in it is wrong.
    """
    tasks = {}
    for file in (BUILT_IN, *([path] if path else [])):
        tasks |= {(task.benchmark, task.name): task for task in parse_tasks(str(file), read_content(file))}
    return [*tasks.values()]


def choose_tasks(tasks: Sequence[Task], folder: Path, names: Sequence[str] = ("all",)) -> list[Task]:
    """The tasks of these names, or "all", whose file to train on exists.

    Raises:
      UsageError: there is no such task, or no such file.
    """
    known = {task.name for task in tasks}
    if unknown := [name for name in names if name not in known | {"all"}]:
        raise UsageError(f"--tasks {unknown[0]}: no such task; there are {', '.join(sorted(known))}")
    chosen = [task for task in tasks if {task.name, "all"} & {*names} and find_file(folder / task.name, task.train)]
    missing = {*names} - {"all"} - {task.name for task in chosen}
    if missing or not chosen:
        name = min(missing, default="TASK")
        files = sorted({file for task in tasks if task.name == name for file in task.train}) or ["train.tsv"]
        raise UsageError(f"{folder / name}: no {' or '.join(files)} there; give the folder with the benchmark's files")
    if twice := {task.name for task in chosen if sum(task.name == other.name for other in chosen) > 1}:
        raise UsageError(f"{folder / min(twice)}: files of two benchmarks; give the folder of one")
    return chosen


def find_file(folder: Path, names: Sequence[str]) -> Path | None:
    """The first of these files that exists."""
    return next((path for name in names if (path := folder / name).is_file()), None)


def parse_tasks(path: str, content: bytes) -> list[Task]:
    """The tasks of a TOML file: [BENCHMARK] has the defaults of its tasks, and [BENCHMARK.TASK] is one."""
    try:
        tables = tomllib.loads(content.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no TOML ({' '.join(str(error).split())[:200]}); correct it") from None
    tasks = []
    for benchmark, table in tables.items():
        if not isinstance(table, dict):
            raise DataError(f"{path}: {benchmark} is no table; write [BENCHMARK.TASK]")
        entries = {name: value for name, value in table.items() if isinstance(value, dict)}
        common = {name: value for name, value in table.items() if name not in entries}
        for name, entry in entries.items():
            tasks.append(_task(f"{path}: [{benchmark}.{name}]", benchmark, name, common | entry))
    if not tasks:
        raise DataError(f"{path}: no task in it; write [BENCHMARK.TASK]")
    return tasks


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and value != ""


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(map(_is_text, value))


def _is_file(value: Any) -> bool:
    return _is_text(value) or _are_texts(value)


def _is_range(value: Any) -> bool:
    numbers = isinstance(value, list) and len(value) == 2 and all(type(each) in (int, float) for each in value)
    return numbers and value[0] < value[1]


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


FILES = ("train", "dev", "test")
CHECKS: dict[str, tuple[Callable[[Any], bool], str]] = {
    **dict.fromkeys(FILES, (_is_file, "the name of a file, or a list of them")),
    **dict.fromkeys(("label", "index", "dev_ids", "skip_label", "name"), (_is_text, "a text")),
    **dict.fromkeys(("labels", "columns", "key", "choices"), (_are_texts, "a list of texts")),
    "texts": (lambda value: _are_texts(value) and len(value) <= 2, "a list of one text or two"),
    "metrics": (_are_texts, "a list of texts"),
    "range": (_is_range, "a list of two numbers, the lower first"),
    **dict.fromkeys(("skip_short", "diagnostic"), (lambda value: isinstance(value, bool), "true or false")),
    "records": (lambda value: isinstance(value, str) and value in RECORDS, f"one of {', '.join(RECORDS)}"),
    "negatives": (lambda value: type(value) is int and value > 0, "a number above 0"),
    "predictions": (lambda value: value in FORMATS, f"one of {', '.join(FORMATS)}"),
    **dict.fromkeys(("written", "flags"), (_is_table, "a table")),
    "sets": (lambda value: isinstance(value, list) and value and all(map(_is_table, value)), "a list of tables"),
}
SET_KEYS = ("name", "texts", "metrics", "dev", "test", "diagnostic")  # those of [[BENCHMARK.TASK.sets]]
TASK_KEYS = CHECKS.keys() - {"name", "diagnostic"}


def _check_keys(where: str, table: Mapping[str, Any], keys: Collection[str]) -> None:
    for key, value in table.items():
        if key not in keys:
            raise DataError(f"{where}: {key}: no such key; docs/glue.md has them")
        is_right, allowed = CHECKS[key]
        if not is_right(value):
            raise DataError(f"{where}: {key} must be {allowed}")


def _task(where: str, benchmark: str, name: str, entry: Mapping[str, Any]) -> Task:
    _check_keys(where, entry, TASK_KEYS)
    tables = entry.get("sets", [{}])
    for table in tables:
        _check_keys(where, table, SET_KEYS)
    if missing := [key for key in ("train", "texts", "metrics") if key not in entry]:
        raise DataError(f"{where}: {missing[0]} is missing")
    for word in (name, *(table.get("name", name) for table in tables)):
        if not re.fullmatch(r"\w[\w.+-]*", word):  # of folders and files
            raise DataError(f"{where}: a name must consist of letters, digits, and the characters . _ + -")
    values = _tuples(entry)
    defaults = {"name": name, "texts": values["texts"], "metrics": values["metrics"]}
    files = {key: values.pop(key) for key in ("dev", "test") if key in values}
    sets = tuple(
        EvaluationSet(**defaults | ({} if table.keys() & {"dev", "test"} else files) | _tuples(table))
        for table in tables
    )
    if not sets[0].dev and "dev_ids" not in values:
        raise DataError(f"{where}: dev is missing, the file with labels that the task is measured on")
    task = Task(benchmark, name, **values | {"sets": sets})
    if sum([bool(task.labels), task.range is not None, task.is_choice]) != 1:
        raise DataError(f"{where}: give one of labels, range and choices")
    for metric in (metric for each in (task, *sets) for metric in each.metrics):
        if metric not in (allowed := metrics_of(task)):
            raise DataError(f"{where}: metrics: {metric}: such a task has {', '.join(allowed)}")
    return task


def metrics_of(task: Task) -> tuple[str, ...]:
    """The metrics that a task may have."""
    if task.choices or task.range:
        return RANGE_METRICS if task.range else ("accuracy",)
    metrics = OTHER_METRICS.get(task.records, LABEL_METRICS)
    return metrics if len(task.labels) == 2 or task.is_choice else tuple(name for name in metrics if name != "f1")


def _tuples(table: Mapping[str, Any]) -> dict[str, Any]:
    """A table with tuples in place of lists, and of the name of a single file."""
    lists = {key: [value] if key in FILES and isinstance(value, str) else value for key, value in table.items()}
    return {key: tuple(value) if isinstance(value, list) else value for key, value in lists.items()}
