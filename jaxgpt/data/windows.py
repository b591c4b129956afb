"""Windows of one text or several, in a computed order: pure functions whose whole state is one integer."""

import functools
from collections.abc import Sequence

import numpy as np

from jaxgpt.data.loader import require_sizes
from jaxgpt.data.order import mixture_schedule, permute
from jaxgpt.data.shards import Tokens

BLOCK = 1024  # windows that are permuted at once


def next_windows(
    texts: Sequence[np.ndarray | Tokens],
    weights: tuple[int, ...],
    position: int,
    B: int,
    T: int,
    seed: int | None,
    rows: slice = slice(None),
    horizon: int = 1,
) -> tuple[np.ndarray, np.ndarray, int]:
    """As `next_batch`, for one or more texts in windows: each sequence starts where `windows` says.

    Args:
      texts: arrays as `next_batch` takes them, each of at least T + horizon tokens.
      weights, seed: the order, as `windows` takes it.
      position: tokens seen in the whole run: k*T after k windows, over all texts and epochs.

    Returns:
      x, y: int32 (B, T), only `rows`; with horizon > 1, y is (horizon, B, T).
      next_position: position + B*T.
    """
    sources, starts = windows([len(text) for text in texts], weights, position, B, T, seed, rows, horizon)
    ids = np.empty((len(starts), T + horizon), np.int32)
    for i, text in enumerate(texts):
        _cut_windows(text, starts, ids, None if len(texts) == 1 else np.flatnonzero(sources == i))
    x, *y = (ids[:, i : i + T] for i in range(horizon + 1))
    return x, y[0] if horizon == 1 else np.stack(y), position + B * T


def _cut_windows(text: np.ndarray | Tokens, starts: np.ndarray, ids: np.ndarray, rows: np.ndarray | None) -> None:
    """Fill `rows` of `ids`, or all of them, each with the tokens from its start on."""
    length = ids.shape[1]
    if isinstance(text, Tokens) and len(text.shards) == 1:
        text = text.shards[0]
    if isinstance(text, Tokens):
        for row in range(len(ids)) if rows is None else rows.tolist():
            ids[row] = text[int(starts[row]) : int(starts[row]) + length]
        return
    # A view whose row i is the piece of this length at token i, so that numpy copies many pieces in one call; no more
    # than malloc has memory at hand for, which it asks the system for from 128 KB on.
    pieces = np.ndarray((len(text) - length + 1, length), text.dtype, text, 0, 2 * text.strides)
    chunk = max(1, 40_000 // length)
    for first in range(0, len(ids) if rows is None else len(rows), chunk):
        chosen = slice(first, first + chunk) if rows is None else rows[first : first + chunk]
        ids[chosen] = pieces[starts[chosen]]


def windows(
    lengths: Sequence[int],
    weights: tuple[int, ...],
    position: int,
    B: int,
    T: int,
    seed: int | None,
    rows: slice = slice(None),
    horizon: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """The text that each window of a batch comes from, and the token at which it starts.

    A text of N tokens has (N - horizon) // T adjacent windows of T tokens, and each of its epochs has all of them once.
    Window k of a run, k = position/T + row, depends only on the lengths, weights, T and seed: not on B, nor on who
    cuts it.

    Args:
      lengths: N of each text.
      weights: whole numbers, how many of every sum(weights) windows each text gets, as order.mixture_schedule deals
        them out.
      seed: of the permutation of each epoch of each text; None: from the first window to the last.

    Returns:
      The text's index and the token, int64 (rows,).

    Raises:
      ValueError: a text is shorter than one window, or the position is not between two windows.
    """
    require_sizes(B, T, horizon)
    if position < 0 or position % T:
        raise ValueError(f"position {position} is not between two windows of {T} tokens")
    first, end, _ = rows.indices(B)
    source, number = mixture_schedule(np.arange(position // T + first, position // T + end), weights)
    for i, N in enumerate(lengths):
        count = (N - horizon) // T
        if count < 1:
            raise ValueError(f"too few tokens for one window: {N:,}, and T + {horizon} = {T + horizon:,} are needed")
        if len(lengths) == 1:
            number = _order_windows(number, count, seed, i)
        else:
            from_text = source == i
            number[from_text] = _order_windows(number[from_text], count, seed, i)
    return source, number * T


def _order_windows(number: np.ndarray, count: int, seed: int | None, text: int) -> np.ndarray:
    """Which of a text's `count` windows comes as its window number 0, 1, ... of a run; the numbers are consecutive."""
    if seed is None or not len(number):
        return number % count
    pieces, first, end = [], int(number[0]), int(number[-1]) + 1
    while first < end:
        epoch, window = divmod(first, count)
        block, offset = divmod(window, BLOCK)
        pieces.append(_permute_block(block, count, order_key(seed, epoch, text))[offset : offset + end - first])
        first += len(pieces[-1])
    return np.concatenate(pieces)


def order_key(seed: int, epoch: int, text: int) -> tuple[int, ...]:
    """The key of the permutation of an epoch of a text; the first text has the order that it has alone."""
    return (seed, epoch, text) if text else (seed, epoch)


@functools.lru_cache(maxsize=16)
def _permute_block(block: int, count: int, key: tuple[int, ...]) -> np.ndarray:
    """Part of an epoch's order: numpy permutes 1,024 windows in hardly more time than the 64 of a batch."""
    return permute(np.arange(block * BLOCK, min(count, (block + 1) * BLOCK)), count, key)
