"""Texts with labels or numbers as rows of tokens, one text a row."""

import functools
import math
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.packing import PaddedRows, enumerate_spans
from jaxgpt.data.records import describe_value, require_text
from jaxgpt.data.tokenizer import Template
from jaxgpt.errors import DataError


def parse_text(where: str, record: dict[str, Any]) -> Segments:
    """A record's "text"."""
    return [(require_text(where, record, "text"), False)]


def parse_pair(where: str, record: dict[str, Any]) -> Segments:
    """A record's "text_a" and "text_b"."""
    return [(require_text(where, record, field), False) for field in ("text_a", "text_b")]


def parse_label(where: str, record: dict[str, Any]) -> str:
    """The name of a record's label: a text, true or false, or a whole number, which 1.0 is too."""
    label = record["label"]
    if isinstance(label, bool):
        return str(label).lower()
    if isinstance(label, int) or (isinstance(label, float) and label.is_integer()):
        return str(int(label))
    if not isinstance(label, str):
        raise DataError(
            f"{where}: 'label' is of type {type(label).__name__}, and must be a text, a whole number, true or false: "
            "one class; write it as one, or remove the field from all lines to learn the texts alone"
        )
    return require_text(where, record, "label").strip()


def label_names(path: str, examples: TokenizedExamples) -> list[str]:
    """A file's labels, sorted: as numbers if all are whole numbers, else alphabetically.

    Raises:
      DataError: all have the same one.
    """
    names = examples.labels
    if len(names) < 2:
        raise DataError(f"{path}: all labels are the same; give texts with at least two labels")
    numbers = all(re.fullmatch(r"-?[0-9]{1,18}", name) for name in names)
    return sorted(names, key=lambda name: (int(name) if numbers else 0, name))  # "01" and "1" have an order too


def label_rows(
    path: str, examples: TokenizedExamples, T: int, labels: Sequence[str], template: Template | None = None
) -> tuple[Batch, list[str]]:
    """One text a row with what surrounds it; the head reads its last token, an encoder's the first.

    Args:
      template: what surrounds it; None: the tokenizer's, in which the last token is the one that ends a document, or an
        encoder's sep.

    Returns:
      `tokens` uint16 or uint32 (R, T), `last` int32 (R,), the column of the last token, for an encoder `second` int32
      (R,), where the second text of a pair begins, 0 for a single text, `line` int64 (R,), that of the file, and
      `labels` int32 (R,), -1 where it is not known; and notes on texts that were cut.

    Raises:
      DataError: an example has a label that is not in `labels`; or T leaves no room for what surrounds a text.
    """
    numbers = {name: number for number, name in enumerate(labels)} | {"": -1}
    label = np.array([numbers.get(name, -2) for name in examples.labels], np.int32)[examples.label]
    if (label < -1).any():
        row = int(np.argmax(label < -1))
        known = f"{len(labels):,} are known"
        raise DataError(f"{path}, line {examples.lines[row]}: unknown label ({known}); correct it or remove the line")
    table, notes = text_rows(examples, T, template)
    return table | {"labels": label}, notes


def text_rows(examples: TokenizedExamples, T: int, template: Template | None = None) -> tuple[Batch, list[str]]:
    """As `label_rows`, without `labels`.

    Of texts that are too long, the longer one loses its end first, as with transformers' `truncation=True`.
    """
    begin, between, end = template or examples.tokenizer.template
    if T < len(begin) + len(end):
        raise DataError(f"--T {T}: what surrounds a text takes {len(begin) + len(end)} tokens; use a larger one")
    between = between[: max(0, T - len(begin) - len(end))]
    lengths = np.diff(examples.starts)
    is_pair = examples.end - examples.first > 1
    a, b = lengths[examples.first], np.where(is_pair, lengths[examples.end - 1], 0)
    separator = is_pair * len(between)
    room = T - len(begin) - len(end) - separator
    is_cut = a + b > room
    keep = np.where(a <= b, np.minimum(a, room // 2), room - np.minimum(b, room // 2))  # tokens of a
    a, b = np.where(is_cut, keep, a), np.where(is_cut, room - keep, b)
    lengths = len(begin) + a + separator + b + len(end)
    starts = np.concatenate([[0], np.cumsum(lengths)])
    tokens = np.zeros(starts[-1], examples.tokens.dtype)
    first, second = starts[:-1] + len(begin), starts[1:] - len(end) - b
    for piece, length, target in ((examples.first, a, first), (examples.end - 1, b, second)):
        for row, offset in enumerate_spans(length):
            tokens[target[row] + offset] = examples.tokens[examples.starts[piece[row]] + offset]
    for ids, target in ((begin, starts[:-1]), (between, (first + a)[is_pair]), (end, second + b)):
        tokens[target[:, None] + np.arange(len(ids))] = ids
    notes = [f"{plural(is_cut.sum(), 'text')} cut at the end, to {T:,} tokens"] if is_cut.any() else []
    table: Batch = {"tokens": PaddedRows(tokens, starts, T), "last": (lengths - 1).astype(np.int32)}
    table["line"] = examples.lines
    if examples.tokenizer.cls is not None:
        table["second"] = np.where(is_pair, second - starts[:-1], 0).astype(np.int32)
    return table, notes


def labelled_kinds(template: Template | None = None) -> list[ExampleKind]:
    """One text or two, with a label."""
    tabulate = functools.partial(label_rows, template=template)
    return [
        ExampleKind("labels", ("text", "label"), parse_text, tabulate, parse_label),
        ExampleKind("labels", ("text_a", "text_b", "label"), parse_pair, tabulate, parse_label),
    ]


def unlabelled_kinds(template: Template | None = None) -> list[ExampleKind]:
    """One text or two; a label is ignored."""
    tabulate = functools.partial(label_rows, template=template)
    return [
        ExampleKind("labels", ("text",), parse_text, tabulate),
        ExampleKind("labels", ("text_a", "text_b"), parse_pair, tabulate),
    ]


def parse_score(where: str, record: dict[str, Any]) -> tuple[float]:
    """A record's "score", a number, which a table writes as a text."""
    score = record["score"]
    try:
        number = math.nan if isinstance(score, bool) else float(score)
    except (TypeError, ValueError, OverflowError):
        number = math.nan
    if not abs(number) <= MAX_SCORE:
        raise DataError(
            f"{where}: 'score' is {describe_value(score)}, and must be a number; correct it, or remove the line"
        )
    return (number,)


def score_rows(path: str, examples: TokenizedExamples, T: int, labels: object = ()) -> tuple[Batch, list[str]]:
    """As `text_rows`, with `score` float32 (R,), and `weight` float32 (R,), all 1."""
    table, notes = text_rows(examples, T)
    score = examples.numbers[:, 0]
    return table | {"score": score, "weight": np.ones_like(score)}, notes


KINDS = labelled_kinds()
MAX_SCORE = 1e9  # whose square is a float32
SCORE_KINDS = [  # only where --score-field names it: many records have a score that is not meant
    ExampleKind("scores", ("text", "score"), parse_text, score_rows, parse_numbers=parse_score),
    ExampleKind("scores", ("text_a", "text_b", "score"), parse_pair, score_rows, parse_numbers=parse_score),
]
