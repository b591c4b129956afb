"""Judged answers as rows of tokens: a prompt with the answer that was preferred and the other, or with a rated one."""

import itertools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.chat import parse_next_answer
from jaxgpt.data.packing import PaddedRows
from jaxgpt.data.records import describe_value, require_text
from jaxgpt.errors import DataError

ANSWERS = ("chosen", "rejected")
# True and False are 1 and 0, and so are 1.0 and 0.0, as pandas writes them where others are missing.
TRUTHS = {1: 1.0, "true": 1.0, "1": 1.0, "1.0": 1.0, 0: 0.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def parse_pair(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "chosen", "rejected"}: the prompt may be empty, an answer too, and then ends at once."""
    for field in ANSWERS:
        if isinstance(record[field], list):
            messages = "(.prompt | arrays) // (.chosen[:-1] | select(. != []))"
            messages += ' // [{role: "user", content: .prompt}]'
            answers = "chosen: .chosen[-1].content, rejected: .rejected[-1].content"
            convert = f"jq -c '{{messages: ({messages}), {answers}}}' FILE > NEW.jsonl"
            raise DataError(f"{where}: {field!r} is a list of messages, and must be the answer's text: {convert}")
    prompt, *answers = (require_text(where, record, field, may_be_empty=True) for field in ("prompt", *ANSWERS))
    return [(prompt, False), *((answer, True) for answer in answers)]


def parse_chat_pair(where: str, record: dict[str, Any]) -> Segments:
    """{"messages", "chosen", "rejected"}: two answers to a conversation, in whose text only these are learned."""
    (*earlier, chosen), (*_, rejected) = (parse_next_answer(where, record, field) for field in ANSWERS)
    return [*earlier, chosen, rejected]


def parse_rated(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "completion", "good"}: one answer to a prompt."""
    texts = (require_text(where, record, field, may_be_empty=True) for field in ("prompt", "completion"))
    return [*zip(texts, (False, True), strict=True)]


def parse_pair_numbers(where: str, record: dict[str, Any]) -> tuple[float, float]:
    """By how much the chosen answer is better, 0 if "margin" is missing, and the pair's "weight", by default 1."""
    return _number(where, record, "margin", 0.0), _weight(where, record)


def parse_rated_numbers(where: str, record: dict[str, Any]) -> tuple[float, float]:
    """1 for an answer that is "good" and 0 for a bad one, and the "weight"."""
    good = record["good"]
    good = good.strip().lower() if isinstance(good, str) else good
    if not isinstance(good, bool | int | float | str) or good not in TRUTHS:
        raise DataError(f"{where}: 'good' is {describe_value(record['good'])}, and must be true or false; correct it")
    return TRUTHS[good], _weight(where, record)


def parse_group(where: str, record: dict[str, Any]) -> str:
    """A record's "group", by which accuracies are told apart; "" if it has none."""
    return str(record.get("group") or "")


def _weight(where: str, record: dict[str, Any]) -> float:
    weight = _number(where, record, "weight", 1.0)
    if weight < 1e-9:  # a float32 of 1e-46 is 0, and a batch of such weights has no mean
        raise DataError(f"{where}: 'weight' is {weight:g}, and must be at least 1e-9; correct it, or remove the line")
    return weight


def _number(where: str, record: dict[str, Any], field: str, default: float) -> float:
    value = record.get(field)
    if value in (None, ""):
        return default
    try:
        number = math.nan if isinstance(value, bool) else float(value)
    except (TypeError, ValueError):
        number = math.nan
    if not abs(number) <= 1e6:
        raise DataError(
            f"{where}: {field!r} is {describe_value(value)}, and must be a number, from -1e6 to 1e6; correct it"
        )
    return number


def pair_rows(path: str, examples: TokenizedExamples, T: int, labels: Sequence[str] = ()) -> tuple[Batch, list[str]]:
    """As answer_rows, with two answers; and (R,) float32 `margin` and `weight`, int32 `group`, in examples.labels."""
    table, rows, notes = answer_rows(path, examples, T, "pair", num_answers=2)
    margin, weight = examples.numbers[rows].T
    return table | {"margin": margin, "weight": weight, "group": examples.label[rows]}, notes


def rated_rows(path: str, examples: TokenizedExamples, T: int, labels: Sequence[str] = ()) -> tuple[Batch, list[str]]:
    """As answer_rows; and (R,) int32 `good`, float32 `weight`."""
    table, rows, notes = answer_rows(path, examples, T, "answer")
    good, weight = examples.numbers[rows].T
    return table | {"good": good.astype(np.int32), "weight": weight}, notes


def answer_rows(
    path: str, examples: TokenizedExamples, T: int, what: str, num_answers: int = 1
) -> tuple[Batch, list[int], list[str]]:
    """A row for each example: the prompt with its last answer, or a sequence with each of its last two.

    A sequence that is longer than T loses its end; an example is skipped where that leaves nothing of the answers, or
    where what is left of them is the same.

    Args:
      path: the file, for errors.
      what: an example, for errors and notes.

    Returns:
      `tokens` (R, T), or of two answers (R, 2, T), padded on the right; int32 `start` (R,), the column of the answers'
      first token, and `last` (R,) or (R, 2), that of their last; int64 `line` (R,), that of the file. Then the number
      of each row's example, and notes on what was cut and skipped.

    Raises:
      DataError: no example is left.
    """
    counts = {"cut": 0, "no room": 0, "same": 0, "empty": 0}
    rows, first_columns, sequences = [], [], []
    learned = np.flatnonzero(examples.learned)
    ends = learned[np.searchsorted(learned, examples.end) - 1] + 1  # what follows the last answer is left out
    for row, (first, end) in enumerate(zip(examples.first.tolist(), ends.tolist(), strict=True)):
        begin, *bounds = examples.starts[[first, *range(end - num_answers, end + 1)]].tolist()
        start = bounds[0] - begin
        answers = [examples.tokens[a : min(b, a + T - start)] for a, b in itertools.pairwise(bounds)]
        if start >= T:
            counts["no room"] += 1
        elif num_answers == 2 and np.array_equal(*answers):
            counts["same"] += 1
        else:
            lengths = np.diff(bounds)
            counts["cut"] += bool(start + max(lengths) > T)
            counts["empty"] += 1 in lengths
            rows.append(row)
            first_columns.append(start)
            sequences += [np.append(examples.tokens[begin : bounds[0]], answer) for answer in answers]
    notes = _notes(counts, what, T)
    if not rows:
        remedy = "use a larger --T" + ", or answers that differ" * (num_answers > 1)
        raise DataError(f"{path}: no {what} is left: {'; '.join(notes)}; {remedy}")
    lengths, shape = np.array([len(each) for each in sequences]), (2,) * (num_answers > 1)
    tokens = PaddedRows(np.concatenate(sequences), np.append(0, np.cumsum(lengths)), T, shape)
    table: Batch = {"tokens": tokens, "start": np.array(first_columns, np.int32)}
    table |= {"last": (lengths - 1).astype(np.int32).reshape(-1, *shape), "line": examples.lines[rows]}
    return table, rows, notes


def _notes(counts: dict[str, int], what: str, T: int) -> list[str]:
    texts = {
        "cut": f"cut at the end, to --T {T}",
        "no room": f"skipped: the prompt alone fills --T {T}",
        "same": f"skipped: what --T {T} leaves of the two answers is the same",
        "empty": "with an empty answer, which is <|endoftext|> alone",
    }
    return [f"{plural(count, what)} {texts[name]}" for name, count in counts.items() if count]


_PAIR_ROWS = pair_rows, parse_group, parse_pair_numbers
KINDS = [
    ExampleKind("preferences", ("prompt", *ANSWERS), parse_pair, *_PAIR_ROWS),
    ExampleKind("preferences", ("messages", *ANSWERS), parse_chat_pair, *_PAIR_ROWS, is_chat=True),
    ExampleKind("ratings", ("prompt", "completion", "good"), parse_rated, rated_rows, parse_group, parse_rated_numbers),
]
