"""Spans of tokens into rows: which row each one goes to, and where in it."""

import bisect
import collections
import dataclasses
import math
from collections.abc import Iterator, Sequence

import numpy as np


def best_fit_decreasing(lengths: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """Place spans in rows of T tokens: the longest first, each in the fullest row that has room for it.

    This is the packing of "Fewer Truncations Improve Language Modeling" (Ding et al., 2024), `bfd` in TRL. A row that
    has just taken a span is the fullest one for the next of that length, as long as it has room. So spans of one length
    fill row after row, and rows with the same room are handled together, as arrays. Nothing is random.

    Args:
      lengths: int (n,), from 1 to T.

    Returns:
      int64 (n,): the row of each span, and its first column.
    """
    row, column = np.zeros(len(lengths), np.int64), np.zeros(len(lengths), np.int64)
    rows_with = collections.defaultdict(list)  # by their room, in tokens
    rooms: list[int] = []  # its keys, sorted
    num_rows = 0

    def add(rows: list[int], room: int) -> None:
        if rows and room:
            if room not in rows_with:
                bisect.insort(rooms, room)
            rows_with[room] += rows

    order = np.argsort(-lengths, kind="stable")
    for spans in np.split(order, np.flatnonzero(np.diff(lengths[order])) + 1):
        length = int(lengths[spans[0]])
        while len(spans):
            at = bisect.bisect_left(rooms, length)
            room = rooms[at] if at < len(rooms) else T
            per_row = room // length
            needed = -(-len(spans) // per_row)
            if room < T:
                rows = rows_with[room][-needed:]
                del rows_with[room][-needed:]
                if not rows_with[room]:
                    del rows_with[room], rooms[at]
            else:
                rows = list(range(num_rows, num_rows + needed))
                num_rows += needed
            placed, spans = np.split(spans, [per_row * len(rows)])
            row[placed] = np.repeat(rows, per_row)[: len(placed)]
            column[placed] = T - room + np.arange(len(placed)) % per_row * length
            full, rest = divmod(len(placed), per_row)
            add(rows[:full], room - per_row * length)
            add(rows[full:], room - rest * length)
    return row, column


def one_a_row(lengths: np.ndarray, T: int) -> tuple[np.ndarray, np.ndarray]:
    """As best_fit_decreasing, with one span in each row, in their order."""
    return np.arange(len(lengths)), np.zeros(len(lengths), np.int64)


def enumerate_spans(lengths: np.ndarray, tokens: int = 1 << 17) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """The number of the span and the offset in it, int64, of every token of spans of these lengths.

    They come in arrays of at most `tokens`, or as many as the longest span has.
    """
    step = max(1, tokens // max(1, lengths.max(initial=0)))
    for first in range(0, len(lengths), step):
        part = lengths[first : first + step]
        span = np.repeat(np.arange(first, first + len(part)), part)
        yield span, np.arange(len(span)) - np.repeat(np.cumsum(part) - part, part)


@dataclasses.dataclass(frozen=True)
class PaddedRows:
    """An array (R, *shape, T) of sequences that end in zeros, without them in memory; it is indexed by rows.

    Attributes:
      tokens: uint16 or uint32 (N,), the S sequences one after the other.
      starts: int64 (S + 1,), where each one starts, and N.
      shape: of a row's sequences, (2,) for pairs.
    """

    tokens: np.ndarray
    starts: np.ndarray
    T: int
    shape: tuple[int, ...] = ()

    def __len__(self) -> int:
        return (len(self.starts) - 1) // math.prod(self.shape)

    def __getitem__(self, rows: slice | Sequence[int]) -> np.ndarray:
        start, end = (each.reshape(-1, *self.shape)[rows] for each in (self.starts[:-1], self.starts[1:]))
        shape, start, lengths = start.shape, start.ravel(), (end - start).ravel()
        x = np.zeros((len(start), self.T), self.tokens.dtype)
        for row, offset in enumerate_spans(lengths):
            x[row, offset] = self.tokens[start[row] + offset]
        return x.reshape(*shape, self.T)
