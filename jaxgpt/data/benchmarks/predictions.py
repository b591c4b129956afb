"""From a model's outputs for items to answers, and from answers to files in the leaderboards' formats."""

import itertools
import json
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.data.benchmarks.readers import Item
from jaxgpt.data.benchmarks.tasks import Task


class Answer(NamedTuple):
    """A model's answer to a question.

    Attributes:
      index: identifies the question.
      predicted: a label, a choice by its number or its text, or the number of a regression.
      truth: what it should be, all right answers if choices are texts; "" if it is not known.
    """

    index: tuple[Any, ...]
    predicted: str | float
    truth: Any = ""


def make_answers(task: Task, items: Sequence[Item], outputs: np.ndarray, labels: Sequence[str]) -> list[Answer]:
    """The answers to the items' questions, in the order of the file.

    Args:
      outputs: the head's, (items, labels): logits, or the one number of a regression.
      labels: the names of the outputs.
    """
    if task.range:
        truths = (item.label and float(item.label) for item in items)
        return [Answer(item.index, float(x), y) for item, x, y in zip(items, outputs[:, 0], truths, strict=True)]
    if task.is_choice:
        true, false = (outputs[:, labels.index(name)] for name in ("true", "false"))
        return [*_choose(items, true - false)]
    names = (labels[number] for number in outputs.argmax(-1))
    return [Answer(item.index, name, item.label) for item, name in zip(items, names, strict=True)]


def _choose(items: Sequence[Item], scores: np.ndarray) -> Iterator[Answer]:
    """The choice with the highest score for each question; the first of equal ones."""
    for index, group in itertools.groupby(range(len(items)), key=lambda number: items[number].index):
        numbers = [*group]
        best = items[max(numbers, key=scores.__getitem__)]
        right = [items[number].choice for number in numbers if items[number].label == "true"]
        yield Answer(index, best.choice, best.answers or (right[0] if right else ""))


def format_answers(task: Task, answers: Iterable[Answer]) -> str:
    """The content of a file of predictions."""
    if task.predictions == "tsv":
        rows = (f"{answer.index[0]}\t{_spell(task, answer)}\n" for answer in answers)
        return "".join(["index\tprediction\n", *rows])
    if task.records == "multirc":
        records = _nest(task, answers)
    else:
        records = ({"idx": answer.index[0], "label": _json_label(task, answer)} for answer in answers)
    return "".join(json.dumps(record, ensure_ascii=False) + "\n" for record in records)


def _nest(task: Task, answers: Iterable[Answer]) -> Iterator[dict[str, Any]]:
    """MultiRC's own records, one for each passage: its questions, and the labels of their answers."""
    for passage, of_passage in itertools.groupby(answers, key=lambda answer: answer.index[0]):
        questions = []
        for question, of_question in itertools.groupby(of_passage, key=lambda answer: answer.index[1]):
            labelled = [{"idx": answer.index[2], "label": _json_label(task, answer)} for answer in of_question]
            questions.append({"idx": question, "answers": labelled})
        yield {"idx": passage, "passage": {"questions": questions}}


def _spell(task: Task, answer: Answer) -> str:
    predicted = answer.predicted
    return f"{predicted:.4f}" if isinstance(predicted, float) else task.written.get(predicted, predicted)


def _json_label(task: Task, answer: Answer) -> Any:
    """A number if the labels or the choices are numbers; true and false are texts, as the leaderboard wants them."""
    if isinstance(answer.predicted, float):
        return answer.predicted
    is_number = task.choices or all(label.isdecimal() for label in task.labels or "x")
    return int(answer.predicted) if is_number else _spell(task, answer)
