"""Multiple choice: a context, its possible continuations, and which of them is right. No JAX: it is imported first."""

import dataclasses
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.data import records
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError

DELIMITER = " "  # between a context and a choice, as the harness's target_delimiter


@dataclasses.dataclass(frozen=True)
class Item:
    """A question.

    Attributes:
      choices: the texts that may follow the context and a space.
      answer: which of them is right, from 0.
      requests: for each choice the token ids of the context and of the continuation.
    """

    choices: list[str]
    answer: int
    requests: list[tuple[list[int], list[int]]]


def read_items(path: str | Path, block_size: int, tokenizer: Tokenizer) -> list[Item]:
    """The items of a JSONL file: {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0} a line.

    Raises:
      DataError: the file, or a line of it, is not that; or a choice is longer than block_size tokens.
    """
    lines = records.read_jsonl(path)
    return [_make_item(f"{path}, line {line}", record, block_size, tokenizer) for line, record in lines]


def _make_item(where: str, record: dict[str, Any], block_size: int, tokenizer: Tokenizer) -> Item:
    missing = [name for name in ("context", "choices", "answer") if name not in record]
    if missing:
        raise DataError(f'{where}: no {", ".join(missing)}; an item has "context", "choices" and "answer"')
    context, choices, answer = record["context"], record["choices"], record["answer"]
    if not isinstance(context, str) or not context.strip():
        raise DataError(f"{where}: context must be a text that is not empty")
    if not isinstance(choices, list) or len(choices) < 2:
        raise DataError(f"{where}: choices must be a list of two texts or more")
    for choice in choices:
        if not isinstance(choice, str) or not choice.strip():
            raise DataError(f"{where}: each choice must be a text that is not empty")
    records.require_unicode(where, context, *choices)
    if type(answer) is not int or not 0 <= answer < len(choices):
        raise DataError(f"{where}: answer must be a number from 0 to {len(choices) - 1}")
    requests = [encode_pair(tokenizer, context, DELIMITER + choice) for choice in choices]
    longest = max(len(continuation) for _, continuation in requests)
    if longest > block_size:
        raise DataError(f"{where}: a choice has {longest:,} tokens, more than the model's context of {block_size:,}")
    return Item(choices, answer, requests)


def encode_pair(tokenizer: Tokenizer, context: str, continuation: str) -> tuple[list[int], list[int]]:
    """Token ids of a context and its continuation, as the harness makes them: encoded together, and then parted.

    Blanks at the end of the context go to the continuation, since words begin with theirs.
    """
    stem = context.rstrip()
    ids = tokenizer.encode_prompt(stem)
    return ids, tokenizer.encode_prompt(context + continuation)[len(ids) :]


def find_hits(items: Sequence[Item], scores: Sequence[Sequence[float]]) -> list[bool]:
    """Whether the right choice of each item has the highest score; of equal ones the first counts."""
    return [each.index(max(each)) == item.answer for item, each in zip(items, scores, strict=True)]


def accuracy(items: Sequence[Item], log_likelihoods: Sequence[Sequence[float]]) -> dict[str, float]:
    """How often the right choice is the likeliest.

    Args:
      log_likelihoods: of each item's choices.

    Returns:
      `acc`, and `acc_norm`, for which a choice's log likelihood is divided by its characters; the standard error of
      each, nan for a single item; `n`.
    """
    by_character = [
        [value / len(choice) for value, choice in zip(scores, item.choices, strict=True)]
        for item, scores in zip(items, log_likelihoods, strict=True)
    ]
    hits, hits_norm = find_hits(items, log_likelihoods), find_hits(items, by_character)
    acc, acc_stderr = mean_and_error(hits)
    acc_norm, acc_norm_stderr = mean_and_error(hits_norm)
    return {
        "acc": acc,
        "acc_stderr": acc_stderr,
        "acc_norm": acc_norm,
        "acc_norm_stderr": acc_norm_stderr,
        "n": len(items),
    }


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean and its standard error: the sample standard deviation over the root of n; nan for fewer than two."""
    n, mean = len(values), sum(values) / len(values)
    variance = sum((value - mean) ** 2 for value in values) / (n - 1) if n > 1 else math.nan
    return mean, math.sqrt(variance / n)


def ratio_and_error(values: np.ndarray, counts: np.ndarray) -> tuple[float, float]:
    """sum(values) / sum(counts) of items drawn alike, and its standard error; nan for fewer than two.

    Cochran (1977), "Sampling Techniques", section 2.11.

    Args:
      values, counts: float64 (n,).
    """
    n, total = len(counts), counts.sum()
    ratio = float(values.sum() / total)
    squares = float(((values - ratio * counts) ** 2).sum())
    variance = squares * n / (n - 1) if n > 1 else math.nan
    return ratio, math.sqrt(variance) / float(total)
