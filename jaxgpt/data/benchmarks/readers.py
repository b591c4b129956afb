"""Reads the files of a benchmark's task, in any of their formats, as items: texts, with a label where they have one."""

import collections
import random
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from jaxgpt.console import plural
from jaxgpt.data.benchmarks.nested import RECORDS, Flat
from jaxgpt.data.benchmarks.tasks import EvaluationSet, Task, find_file
from jaxgpt.data.labels import parse_label, parse_score
from jaxgpt.data.records import (
    JSON_LINES,
    Record,
    describe_value,
    find_name,
    parse_jsonl,
    parse_table,
    read_content,
    read_first,
    require_unicode,
)
from jaxgpt.errors import DataError

EMPTY = "."  # in place of an empty text, which examples may not have


class Item(NamedTuple):
    """A text, or a pair, that a model classifies or gives a number.

    Attributes:
      line: on which its record begins in the file.
      texts: one or two.
      label: its label, or its number as a text; "true" or "false" for a choice; "" if it is not known.
      index: identifies its question, which may have several items.
      choice: which of the question's choices it is; "" if there are none.
      answers: all right answers, if choices are texts.
    """

    line: int
    texts: tuple[str, ...]
    label: str = ""
    index: tuple[Any, ...] = ()
    choice: str = ""
    answers: tuple[str, ...] = ()

    @property
    def record(self) -> dict[str, str]:
        """Its texts as a record of a file of examples."""
        return dict(zip(("text",) if len(self.texts) == 1 else ("text_a", "text_b"), self.texts, strict=True))


class Split(NamedTuple):
    """The items of a file, and notes on what was skipped or changed."""

    path: Path
    items: list[Item]
    notes: list[str]


def read_train(task: Task, folder: Path) -> Split:
    """What a task is trained on, with at most `negatives` wrong choices of each question, always the same.

    Args:
      folder: of the benchmark.

    Raises:
      DataError: a file is missing, or a line is wrong; with its number.
    """
    path = require_file(folder / task.name, task.train)
    keys = _dev_keys(task, folder / task.name) if task.key else ()
    split = _read(task, path, task.texts, is_wanted=lambda row: not keys or _key(task, path, row) not in keys)
    return split if task.negatives is None else split._replace(items=_sample_choices(split.items, task.negatives))


def read_dev(task: Task, chosen: EvaluationSet, folder: Path) -> Split | None:
    """What a task is measured on; None: a diagnostic set that is missing or has no labels. Errors as `read_train`."""
    folder = folder / task.name
    path = find_file(folder, chosen.dev)
    if chosen.diagnostic and (path is None or task.label not in (read_first(path) or {})):
        return None
    if path:
        return _read(task, path, chosen.texts)
    if task.dev_ids is None:
        require_file(folder, chosen.dev)
    path, keys = require_file(folder, task.train), _dev_keys(task, folder)
    return _read(task, path, chosen.texts, is_wanted=lambda row: _key(task, path, row) in keys)


def read_test(task: Task, chosen: EvaluationSet, folder: Path) -> Split | None:
    """What the leaderboard wants predictions for; None if there is no such file."""
    path = find_file(folder / task.name, chosen.test)
    return path and _read(task, path, chosen.texts, labelled=False)


def _read(
    task: Task,
    path: Path,
    texts: Sequence[str],
    labelled: bool = True,
    is_wanted: Callable[[Record], bool] = lambda row: True,
) -> Split:
    rows, notes = read_rows(task, path, labelled)
    items, more = make_items(task, path, filter(is_wanted, rows), texts, labelled)
    return Split(path, items, notes + more)


def require_file(folder: Path, names: Sequence[str]) -> Path:
    if path := find_file(folder, names):
        return path
    raise DataError(f"{folder}: no {' or '.join(names)} there; it belongs to the task")


def read_rows(task: Task, path: Path, labelled: bool) -> tuple[list[Record], list[str]]:
    """The records of a JSONL, CSV or TSV file, each with its line, and notes on those that were skipped."""
    content, errors = read_content(path), {}
    if path.suffix in JSON_LINES:
        return [*parse_jsonl(path, content)], []
    columns = task.columns if labelled else ()
    delimiter = "," if path.suffix == ".csv" else "\t"
    rows = [*parse_table(path, content, delimiter, errors if task.skip_short else None, columns)]
    if not errors:
        return rows, []
    return rows, [f"{path}: {plural(len(errors), 'row')} with too few or too many columns left out, line {min(errors)}"]


def make_items(
    task: Task, path: Path, rows: Iterable[Record], texts: Sequence[str], labelled: bool
) -> tuple[list[Item], list[str]]:
    """Records as items.

    Args:
      texts: the templates of their texts.
      labelled: whether the file has labels; else a field of that name is not read.
    """
    items, skipped, empty = [], 0, 0
    for number, (line, record) in enumerate(rows):
        where = f"{path}, line {line}"
        if labelled and task.skip_label is not None and record.get(task.label) == task.skip_label:
            skipped += 1
            continue
        for flat in _flatten(task, where, record, labelled):
            filled = tuple(_fill(where, template, flat) for template in texts)
            empty += filled.count(EMPTY)
            label = _label(task, where, flat) if labelled else ""
            index = flat.get("index") if task.records else None  # a path of them
            index = index if isinstance(index, tuple) else (_index(task, where, record, number),)
            items.append(Item(line, filled, label, index, flat.get("prediction", ""), flat.get("answers", ())))
    if not items:
        raise DataError(f"{path}: no example in it; give the file as it is published")
    notes = [f"{path}: {plural(skipped, 'record')} labelled {task.skip_label} left out"] if skipped else []
    return items, notes + ([f"{path}: {plural(empty, 'empty text')} read as {EMPTY!r}"] if empty else [])


def _flatten(task: Task, where: str, record: Flat, labelled: bool) -> Iterator[Flat]:
    """The examples of a record; a choice also has `prediction`, its name in a file of predictions."""
    if task.choices:
        right = parse_label(where, {"label": _field(where, task.label, record)}) if labelled else ""
        if labelled and right not in (numbers := [*map(str, range(len(task.choices)))]):
            raise DataError(f"{where}: {task.label} is {describe_value(right)}, and must be {' or '.join(numbers)}")
        for k, field in enumerate(task.choices):
            yield record | {"choice": _field(where, field, record), "prediction": str(k), task.label: right == str(k)}
    elif task.records:
        try:
            yield from RECORDS[task.records](record)
        except (KeyError, TypeError, AttributeError, IndexError) as error:
            problem = f"{error} is missing" if isinstance(error, KeyError) else str(error)
            raise DataError(f"{where}: no record of {task.name}: {problem:.200}; mend it") from None
    else:
        yield record


def _fill(where: str, template: str, record: Flat) -> str:
    """A template with a record's fields in place of their names in braces."""
    if (name := template[1:-1]) in record and template == f"{{{name}}}":
        text = _text(where, name, record)  # itself: a passage may be that of many items
    else:
        text = re.sub(r"\{([^{}]+)\}", lambda match: _text(where, match[1], record), template)
    return text if text.strip() else EMPTY


def _field(where: str, name: str, record: Flat) -> Any:
    if (found := find_name(name, record)) is None:
        raise DataError(f"{where}: no field {name!r}; every record of this file needs it")
    return record[found]


def _text(where: str, name: str, record: Flat) -> str:
    if not isinstance(text := _field(where, name, record), str):
        raise DataError(f"{where}: {name!r} is of type {type(text).__name__}, and must be a text")
    require_unicode(where, text)
    return text


def _label(task: Task, where: str, record: Flat) -> str:
    value = _field(where, task.label, record)
    if task.range:
        (number,), (low, high) = parse_score(where, {"score": value}), task.range
        if not low <= number <= high:
            problem = f"{task.label} is {describe_value(value)}, and must be a number from {low:g} to {high:g}"
            raise DataError(f"{where}: {problem}")
        return str(number)
    label = parse_label(where, {"label": value})
    if label not in (allowed := task.labels or ("false", "true")):
        raise DataError(f"{where}: {task.label} is {describe_value(label)}, and must be {' or '.join(allowed)}")
    return label


def _index(task: Task, where: str, record: Flat, number: int) -> int | str:
    index = record.get(task.index, number)
    if not isinstance(index, int | str):
        raise DataError(f"{where}: {task.index} is of type {type(index).__name__}, and must be a number or a text")
    return index


def _key(task: Task, path: Path, row: Record) -> tuple[str, ...]:
    line, record = row
    return tuple(_text(f"{path}, line {line}", name, record) for name in task.key)


def _dev_keys(task: Task, folder: Path) -> set[tuple[str, ...]]:
    """The keys of the records that a task is measured on, from its file or from one that has only the keys."""
    if path := find_file(folder, task.sets[0].dev):
        return {_key(task, path, row) for row in read_rows(task, path, labelled=True)[0]}
    path = require_file(folder, (*task.sets[0].dev, task.dev_ids) if task.dev_ids else task.sets[0].dev)
    return {_key(task, path, row) for row in parse_table(path, read_content(path), "\t", names=task.key)}


def _sample_choices(items: Sequence[Item], negatives: int) -> list[Item]:
    """All right choices of each question, and at most `negatives` wrong ones, drawn with a fixed seed."""
    questions = collections.defaultdict(list)
    for number, item in enumerate(items):
        questions[item.index].append(number)
    generator, kept = random.Random(0), []
    for numbers in questions.values():
        wrong = [number for number in numbers if items[number].label == "false"]
        drawn = generator.sample(wrong, min(negatives, len(wrong)))
        kept += {*numbers} - {*wrong} | {*drawn}
    return [items[number] for number in sorted(kept)]
