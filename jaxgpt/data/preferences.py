"""Judged answers as rows of tokens: a prompt with the answer that was preferred and the other, or with a rated one."""

import dataclasses
import functools
import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, ExampleKind, Segments, TokenizedExamples
from jaxgpt.data.chat import parse_conversation
from jaxgpt.data.labels import PaddedRows
from jaxgpt.data.records import require_text
from jaxgpt.errors import DataError

ANSWERS = ("chosen", "rejected")
# True and False are 1 and 0, and so are 1.0 and 0.0, as pandas writes them where others are missing.
TRUTHS = {1: 1.0, "true": 1.0, "1": 1.0, "1.0": 1.0, 0: 0.0, "false": 0.0, "0": 0.0, "0.0": 0.0}


def parse_pair(where: str, record: dict[str, Any]) -> Segments:
    """{"prompt", "chosen", "rejected"}: the prompt may be empty, an answer too, and then ends at once."""
    for field in ANSWERS:
        if isinstance(record[field], list):
            messages = "(.prompt | arrays) // .chosen[:-1]"
            answers = "chosen: .chosen[-1].content, rejected: .rejected[-1].content"
            convert = f"jq -c '{{messages: ({messages}), {answers}}}' FILE > NEW.jsonl"
            raise DataError(f"{where}: {field!r} is a list of messages, and must be the answer's text: {convert}")
    prompt, *answers = (require_text(where, record, field, may_be_empty=True) for field in ("prompt", *ANSWERS))
    return [(prompt, False), *((answer, True) for answer in answers)]


def parse_chat_pair(where: str, record: dict[str, Any]) -> Segments:
    """{"messages", "chosen", "rejected"}: two answers to a conversation, in whose text only these are learned."""
    if not isinstance(record["messages"], list):
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}} or {{'from', 'value'}}")
    earlier, answers = [], []
    for field in ANSWERS:
        answer = {"role": "assistant", "content": require_text(where, record, field, may_be_empty=True)}
        *earlier, learned, _ = parse_conversation(where, record | {"messages": [*record["messages"], answer]})
        answers.append(learned)
    return [*((text, False if is_learned is False else None) for text, is_learned in earlier), *answers]


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
        raise DataError(f"{where}: 'good' is {record['good']!r:.40}, and must be true or false; correct it")
    return TRUTHS[good], _weight(where, record)


def parse_group(where: str, record: dict[str, Any]) -> str:
    """A record's "group", by which accuracies are told apart; "" if it has none."""
    return str(record.get("group") or "")


def _weight(where: str, record: dict[str, Any]) -> float:
    weight = _number(where, record, "weight", 1.0)
    if weight <= 0:
        raise DataError(f"{where}: 'weight' is {weight:g}, and must be above 0; correct it, or remove the line")
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
        raise DataError(f"{where}: {field!r} is {value!r:.40}, and must be a number, from -1e6 to 1e6; correct it")
    return number


def pair_rows(path: str, examples: TokenizedExamples, T: int, labels: Sequence[str] = ()) -> tuple[Batch, list[str]]:
    """A row of two sequences a pair: the prompt with the chosen answer, and with the rejected one.

    A sequence that is longer than T loses its end; a pair is skipped where that leaves nothing of the answers, or where
    what is left of them is the same.

    Args:
      path: the file, for errors.

    Returns:
      `tokens` (R, 2, T), padded on the right; int32 `start` (R,), the column of the answers' first token, and `last`
      (R, 2), that of their last; float32 `margin` and `weight` (R,); int32 `group` (R,), the number of each pair's
      group in examples.labels; int64 `line` (R,), that of the file; and notes on what was cut and skipped.

    Raises:
      DataError: no pair is left.
    """
    rows, counts = [], {"cut": 0, "no room": 0, "same": 0, "empty": 0}
    starts = examples.starts
    for number, (first, end) in enumerate(zip(examples.first.tolist(), examples.end.tolist(), strict=True)):
        begin, chosen, rejected, after = starts[[first, end - 2, end - 1, end]].tolist()
        start, lengths = chosen - begin, (rejected - chosen, after - rejected)
        kept = [min(length, T - start) for length in lengths]
        answers = [examples.tokens[a : a + n] for a, n in zip((chosen, rejected), kept, strict=True)]
        if start >= T:
            counts["no room"] += 1
        elif np.array_equal(*answers):
            counts["same"] += 1
        else:
            counts["cut"] += start + max(lengths) > T
            counts["empty"] += 1 in lengths
            rows.append((number, start, [np.append(examples.tokens[begin:chosen], each) for each in answers]))
    if not rows:
        raise DataError(f"{path}: no pair to learn from: {_describe(counts, 'pair', T)}")
    numbers, first, sequences = zip(*rows, strict=True)
    tokens, last = _padded([sequence for pair in sequences for sequence in pair], T)
    margin, weight = examples.numbers[[*numbers]].T
    tokens = dataclasses.replace(tokens, shape=(2,))
    table: Batch = {"tokens": tokens, "start": np.array(first, np.int32), "last": last.reshape(-1, 2)}
    table |= {"margin": margin, "weight": weight, "group": examples.label[[*numbers]]}
    table |= {"line": examples.lines[[*numbers]]}
    return table, _notes(counts, "pair", T)


def rated_rows(path: str, examples: TokenizedExamples, T: int, labels: Sequence[str] = ()) -> tuple[Batch, list[str]]:
    """As pair_rows, for one answer a row: `tokens` (R, T), `start`, `last`, `good`, `weight` and `line` (R,)."""
    rows, counts = [], {"cut": 0, "no room": 0, "same": 0, "empty": 0}
    starts = examples.starts
    for number, (first, end) in enumerate(zip(examples.first.tolist(), examples.end.tolist(), strict=True)):
        begin, answer, after = starts[[first, end - 1, end]].tolist()
        if (start := answer - begin) >= T:
            counts["no room"] += 1
            continue
        counts["cut"] += after - begin > T
        counts["empty"] += after - answer == 1
        rows.append((number, start, examples.tokens[begin : min(after, begin + T)]))
    if not rows:
        raise DataError(f"{path}: no answer to learn from: {_describe(counts, 'answer', T)}")
    numbers, first, sequences = zip(*rows, strict=True)
    tokens, last = _padded(sequences, T)
    good, weight = examples.numbers[[*numbers]].T
    table: Batch = {"tokens": tokens, "start": np.array(first, np.int32), "last": last}
    table |= {"good": good.astype(np.int32), "weight": weight, "line": examples.lines[[*numbers]]}
    return table, _notes(counts, "answer", T)


def _padded(sequences: Sequence[np.ndarray], T: int) -> tuple[PaddedRows, np.ndarray]:
    """Rows of T tokens, and the column of the last token of each, int32."""
    lengths = np.array([len(each) for each in sequences])
    starts = np.concatenate([[0], np.cumsum(lengths)])
    return PaddedRows(np.concatenate(sequences), starts, T), (lengths - 1).astype(np.int32)


def _notes(counts: dict[str, int], what: str, T: int) -> list[str]:
    texts = {
        "cut": f"cut at the end, to --T {T}",
        "no room": f"skipped: the prompt alone fills --T {T}",
        "same": f"skipped: what --T {T} leaves of the two answers is the same",
        "empty": "with an empty answer, which is <|endoftext|> alone",
    }
    return [f"{plural(count, what)} {texts[name]}" for name, count in counts.items() if count]


def _describe(counts: dict[str, int], what: str, T: int) -> str:
    return "; ".join(_notes(counts, what, T)) + "; use a larger --T, or answers that differ"


_pair = functools.partial(ExampleKind, "preferences", tabulate=pair_rows, parse_label=parse_group)
_pair = functools.partial(_pair, parse_numbers=parse_pair_numbers)
PAIRS = [
    _pair(("prompt", *ANSWERS), parse_pair),
    _pair(("messages", *ANSWERS), parse_chat_pair, is_chat=True),
]
RATED = ("prompt", "completion", "good")
KINDS = [*PAIRS, ExampleKind("ratings", RATED, parse_rated, rated_rows, parse_group, parse_rated_numbers)]
