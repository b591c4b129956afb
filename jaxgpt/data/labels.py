"""Texts with labels as rows of tokens, one text a row."""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, ExampleKind
from jaxgpt.data.records import Records, encode, require_text
from jaxgpt.data.tokenizer import gpt2
from jaxgpt.errors import DataError


def label_names(path: str, records: Records) -> list[str]:
    """A file's labels, sorted: as numbers if all are whole numbers, else alphabetically.

    Raises:
      DataError: a record has no label, or all have the same one.
    """
    names = {_label(f"{path}, line {line}", record) for line, record in records}
    if len(names) < 2:
        raise DataError(f"{path}: all labels are {min(names)!r}; give texts with at least two labels")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))  # "01" and "1" have an order too


def _label(where: str, record: dict[str, Any]) -> str:
    if type(record.get("label")) is int:
        return str(record["label"])
    return require_text(where, record, "label").strip()


def label_rows(path: str, records: Records, T: int, labels: Sequence[str]) -> tuple[Batch, list[str]]:
    """One text a row, then <|endoftext|>, whose hidden state the head reads.

    Returns:
      `tokens` uint16 (R, T), `last` int32 (R,), the column of <|endoftext|>, and `labels` int32 (R,); and notes on
      texts that were cut.

    Raises:
      DataError: a record has no text or label, or one that is not in `labels`.
    """
    label = np.zeros(len(records), np.int32)
    for row, (line, record) in enumerate(records):
        name = _label(f"{path}, line {line}", record)
        if name not in labels:
            known = ", ".join(labels)
            raise DataError(f"{path}, line {line}: the label {name!r:.40} is unknown; the known ones are {known}")
        label[row] = labels.index(name)
    x, last, notes = text_rows(path, records, T)
    return {"tokens": x, "last": last, "labels": label}, notes


def text_rows(path: str, records: Records, T: int) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """As `label_rows`, without labels: x (R, T), last (R,), and the notes."""
    x, last = np.zeros((len(records), T), np.uint16), np.zeros(len(records), np.int32)
    num_cut = 0
    for row, (line, record) in enumerate(records):
        tokens, is_cut = encode_texts(f"{path}, line {line}", record, T)
        num_cut += is_cut
        x[row, : len(tokens)] = tokens
        last[row] = len(tokens) - 1
    return x, last, [f"{num_cut:,} texts are longer than --T {T} and lose their end"] if num_cut else []


def encode_texts(where: str, record: dict[str, Any], T: int) -> tuple[list[int], bool]:
    """The tokens of {"text"} or {"text_a", "text_b"}, at most T, and whether some were cut.

    A new line separates two texts. The longer one loses its end first.
    """
    fields = ("text_a", "text_b") if "text_a" in record and "text" not in record else ("text",)
    a, b = [encode(where, require_text(where, record, field)) for field in fields] + [[]] * (2 - len(fields))
    separator = gpt2().encode_ordinary("\n")[: T - 1] if b else []
    room = T - 1 - len(separator)
    if is_cut := len(a) + len(b) > room:
        keep = min(len(a), room // 2) if len(a) < len(b) else room - min(len(b), room // 2)  # tokens of a
        a, b = a[:keep], b[: room - keep]
    return [*a, *separator, *b, gpt2().eot_token], is_cut


KIND = ExampleKind("labels", "text and label (or text_a, text_b, label)", label_rows, label_names)
