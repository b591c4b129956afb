"""Spans of tokens into rows: which row each one goes to, and where in it."""

from collections.abc import Iterator

import numpy as np


def place_in_order(lengths: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """The row and the first column of each span of tokens; one that doesn't fit begins a new row."""
    row, column = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    current = used = 0
    for i, length in enumerate(lengths.tolist()):
        if used + length > T:
            current, used = current + 1, 0
        row[i], column[i] = current, used
        used += length
    return row, column


def enumerate_spans(lengths: np.ndarray, tokens: int = 1 << 17) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The number of the span and the offset in it, int64, of every token of spans of these lengths.

    They come in arrays of at most `tokens`, or as many as the longest span has.
    """
    step = max(1, tokens // max(1, lengths.max(initial=0)))
    for first in range(0, len(lengths), step):
        part = lengths[first : first + step]
        span = np.repeat(np.arange(first, first + len(part)), part)
        yield span, np.arange(len(span)) - np.repeat(np.cumsum(part) - part, part)
