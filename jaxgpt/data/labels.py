"""Texts with labels as rows of tokens, one text a row."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch
from jaxgpt.data.records import Records, encode, text_of
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import DataError


def names(path: str, found: Records) -> list[str]:
    """The labels of a file: in the order of numbers if all are whole numbers, else of the alphabet."""
    given = {label_of(f"{path}, line {line}", record) for line, record in found}
    if len(given) < 2:
        raise DataError(f"{path}: all labels are {min(given)!r}; there is nothing to tell apart")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in given)
    return sorted(given, key=lambda name: (int(name) if numbers else 0, name))  # "01" and "1" have an order too


def label_of(where: str, record: dict[str, Any]) -> str:
    if type(record.get("label")) is int:
        return str(record["label"])
    return text_of(where, record, "label").strip()


def rows(path: str, wanted: Records, T: int, labels: Sequence[str]) -> tuple[Batch, list[str]]:
    """`tokens` (R, T), `last` (R,) and `labels` (R,): one text a row, then <|endoftext|>, on which the head stands."""
    label = np.zeros(len(wanted), np.int32)
    for row, (line, record) in enumerate(wanted):
        name = label_of(f"{path}, line {line}", record)
        if name not in labels:
            known = ", ".join(labels)
            raise DataError(f"{path}, line {line}: the label {name!r:.40} is unknown; the known ones are {known}")
        label[row] = labels.index(name)
    x, last, notes = texts(path, wanted, T)
    return {"tokens": x, "last": last, "labels": label}, notes


def texts(path: str, wanted: Records, T: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """x (R, T) and last (R,), and what is to be said of texts that were cut."""
    x, last = np.zeros((len(wanted), T), np.uint16), np.zeros(len(wanted), np.int32)
    cut = 0
    for row, (line, record) in enumerate(wanted):
        tokens, longer = tokens_of(f"{path}, line {line}", record, T)
        cut += longer
        x[row, : len(tokens)] = tokens
        last[row] = len(tokens) - 1
    return x, last, [f"{cut:,} texts are longer than --T {T} and lose their end"] if cut else []


def tokens_of(where: str, record: dict[str, Any], T: int) -> tuple[list[int], bool]:
    """The tokens of {"text"} or {"text_a", "text_b"}, at most T, and whether some were cut.

    Between two texts stands a new line. The longer one loses its end first.
    """
    fields = ("text_a", "text_b") if "text_a" in record and "text" not in record else ("text",)
    a, b = [encode(where, text_of(where, record, field)) for field in fields] + [[]] * (2 - len(fields))
    between = gpt2().encode_ordinary("\n")[: T - 1] if b else []
    room = T - 1 - len(between)
    if longer := len(a) + len(b) > room:
        keep = min(len(a), room // 2) if len(a) < len(b) else room - min(len(b), room // 2)  # of a
        a, b = a[:keep], b[: room - keep]
    return [*a, *between, *b, gpt2().eot_token], longer
