"""Tokens of a prepared folder that were erased: ranges of a split, whose tokens became end tokens that are no target.

The positions of all other tokens stay, so the windows of a run are the same, but for those that had read them. What a
folder was before each erasure has a fingerprint, by which a checkpoint can prove that it had read none of them.
"""

import dataclasses
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from jaxgpt.errors import DataError


@dataclasses.dataclass(frozen=True, eq=False)
class Erasure:
    """One erasure, as meta.json has it of a split.

    Attributes:
      fingerprint: the split's before it.
      ranges: int64 (R, 2), the first token of each range, and the one after its last; ascending and apart.
    """

    fingerprint: str
    ranges: np.ndarray


def merge(ranges: Iterable[Sequence[int]]) -> np.ndarray:
    """Ranges in ascending order, int64 (R, 2), those that touch or overlap made one."""
    merged: list[list[int]] = []
    for first, end in sorted((int(first), int(end)) for first, end in ranges if first < end):
        if merged and first <= merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([first, end])
    return np.array(merged, np.int64).reshape(-1, 2)


def cut(ranges: np.ndarray, first: int, end: int) -> np.ndarray:
    """The parts of ranges within the tokens from `first` to `end`, counted from `first`."""
    return merge(np.clip(ranges, first, end) - first)


def subtract(ranges: np.ndarray, others: np.ndarray) -> np.ndarray:
    """The tokens of ranges that are in none of the others, as ranges."""
    borders = np.unique(np.concatenate([ranges.ravel(), others.ravel()]))
    pieces = np.stack([borders[:-1], borders[1:]], 1) if len(borders) else merge([])
    firsts = pieces[:, 0]
    return merge(pieces[contains(ranges, firsts) & ~contains(others, firsts)])


def contains(ranges: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Whether the tokens of these numbers are in one of the ranges, bool, of their shape."""
    if not len(ranges):
        return np.zeros(np.shape(tokens), bool)
    number = np.searchsorted(ranges[:, 0], tokens, side="right") - 1
    return (number >= 0) & (tokens < ranges[number, 1])


def mask_targets(targets: np.ndarray, starts: np.ndarray, ranges: np.ndarray, end: int | None) -> np.ndarray:
    """The targets of sequences, -1 for those that were erased, and for an end token right behind them.

    That one begins the next document; after the tokens that stand for the erased ones it would teach only that.

    Args:
      targets: int32 (B, T), or (B, horizon, T), the tokens 1, 2, ... places ahead.
      starts: int64 (B,), the number of each sequence's first token.
      ranges: int64 (R, 2), those that were erased.
      end: the end token.
    """
    B, T = targets.shape[0], targets.shape[-1]
    horizon = 1 if targets.ndim == 2 else targets.shape[1]
    ahead = np.arange(1, horizon + 1)[:, None] + np.arange(T)[None]  # (horizon, T)
    numbers = (np.asarray(starts)[:, None, None] + ahead[None]).reshape(targets.shape if B else (0, *targets.shape[1:]))
    erased = contains(ranges, numbers) | ((targets == end) & contains(ranges, numbers - 1))
    return np.where(erased, np.int32(-1), targets)


def parse_erasures(where: str, content: Any, split: str, count: int) -> tuple[Erasure, ...]:
    """The erasures of a split, in their order, from meta.json's entry.

    Args:
      where: meta.json, for errors.
      count: tokens of the split.

    Raises:
      DataError: it is not as erasure.py writes it.
    """
    erasures = []
    try:
        for entry in content:
            if split not in entry["splits"]:
                continue
            each = entry["splits"][split]
            fingerprint, ranges = each["fingerprint"], each["ranges"]
            valid = type(fingerprint) is str and all(
                [type(number) for number in pair] == [int, int] and 0 <= pair[0] < pair[1] <= count for pair in ranges
            )
            if not valid or merge(ranges).tolist() != ranges:
                raise ValueError
            erasures.append(Erasure(fingerprint, merge(ranges)))
    except (TypeError, KeyError, ValueError):
        raise DataError(
            f"{where}: corrupt: its erasures are no ranges of the split {split!r}; bring back a copy of it"
        ) from None
    return tuple(erasures)
