"""Texts with labels as rows of tokens, one text a row."""

import functools
import re
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.base import Batch, ExampleKind, NumberedExamples
from jaxgpt.data.records import require_text
from jaxgpt.data.tokenizer import END, encode
from jaxgpt.errors import DataError

TEXTS = (("text",), ("text_a", "text_b"))  # the fields of an example's texts
Labelled = tuple[tuple[str, ...], str | None]  # one text or two, and the label; None: it is not known


def parse_labelled(where: str, record: dict[str, Any], fields: Sequence[str]) -> Labelled:
    """A record's texts, of these fields, and its label."""
    texts, _ = parse_unlabelled(where, record, fields)
    return texts, _label(where, record)


def parse_unlabelled(where: str, record: dict[str, Any], fields: Sequence[str]) -> Labelled:
    """A record's texts, of these fields."""
    return tuple(require_text(where, record, field) for field in fields), None


def label_names(path: str, examples: NumberedExamples) -> list[str]:
    """A file's labels, sorted: as numbers if all are whole numbers, else alphabetically.

    Raises:
      DataError: all examples have the same one.
    """
    names = {label for _, (_, label) in examples}
    if len(names) < 2:
        raise DataError(f"{path}: all labels are {min(names)!r}; give texts with at least two labels")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))  # "01" and "1" have an order too


def _label(where: str, record: dict[str, Any]) -> str:
    """A label's name: a text, true or false, or a whole number, which 1.0 is too."""
    label = record["label"]
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return str(int(label))
    return require_text(where, record, "label").strip()


def label_rows(path: str, examples: NumberedExamples, T: int, labels: Sequence[str]) -> tuple[Batch, list[str]]:
    """One text a row, then <|endoftext|>, whose hidden state the head reads.

    Returns:
      `tokens` uint16 (R, T), `last` int32 (R,), the column of <|endoftext|>, and `labels` int32 (R,), -1 where it is
      not known; and notes on texts that were cut.

    Raises:
      DataError: an example has a label that is not in `labels`.
    """
    x = np.zeros((len(examples), T), np.uint16)
    last, label = np.zeros(len(examples), np.int32), np.full(len(examples), -1, np.int32)
    num_cut = 0
    for row, (line, (texts, name)) in enumerate(examples):
        if name is not None:
            if name not in labels:
                known = ", ".join(labels)
                raise DataError(f"{path}, line {line}: the label {name!r:.40} is unknown; the known ones are {known}")
            label[row] = labels.index(name)
        tokens, is_cut = encode_texts(texts, T)
        num_cut += is_cut
        x[row, : len(tokens)] = tokens
        last[row] = len(tokens) - 1
    notes = [f"{num_cut:,} texts are longer than --T {T} and lose their end"] if num_cut else []
    return {"tokens": x, "last": last, "labels": label}, notes


def encode_texts(texts: Sequence[str], T: int) -> tuple[list[int], bool]:
    """The tokens of one text or two, at most T, and whether some were cut.

    A new line separates two texts. The longer one loses its end first.
    """
    a, b = [encode(text) for text in texts] + [[]] * (2 - len(texts))
    separator = encode("\n")[: T - 1] if len(b) else []
    room = T - 1 - len(separator)
    if is_cut := len(a) + len(b) > room:
        keep = min(len(a), room // 2) if len(a) < len(b) else room - min(len(b), room // 2)  # tokens of a
        a, b = a[:keep], b[: room - keep]
    return [*a, *separator, *b, END], is_cut


def _kind(parse: Callable[..., Labelled], texts: tuple[str, ...], *label: str) -> ExampleKind:
    fields = (*texts, *label)
    return ExampleKind("labels", fields, functools.partial(parse, fields=texts), label_rows, label_names)


KINDS = [_kind(parse_labelled, texts, "label") for texts in TEXTS]
UNLABELLED = [_kind(parse_unlabelled, texts) for texts in TEXTS]
