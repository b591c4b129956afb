"""The batch at a position: pure functions whose whole state is one integer."""

import functools
from collections.abc import Sequence

import numpy as np

from jaxgpt.data.order import mixture_schedule, permute
from jaxgpt.data.shards import Tokens

BLOCK = 1024  # windows that are permuted at once


def next_batch(
    tokens: np.ndarray, position: int, B: int, T: int, rows: slice = slice(None), horizon: int = 1
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut the batch at a position out of the token stream.

    The "data loader lite" of Karpathy's build-nanogpt, without its hidden state: same arguments, same result.

    Args:
      tokens: the corpus on the host, shape (N,), any integer dtype; a memmap is read only where it is cut.
      position: where the batch starts, 0 <= position <= N - (B*T + horizon).
      B: sequences per batch.
      T: tokens per sequence.
      rows: which contiguous sequences to return; by default all B. It changes nothing else, so several hosts can each
        cut their own part of one batch.
      horizon: how many tokens ahead y reaches; a batch is a window of B*T + horizon tokens, and the stride is always
        B*T.

    Returns:
      x: int32 (B, T), the tokens from `position` on; of these only `rows`.
      y: int32 (B, T), the token that follows each token of x; with horizon > 1 int32 (horizon, B, T), where y[i] has
        the tokens i + 1 places ahead.
      next_position: position + B*T, or 0 where no whole window of B*T + horizon tokens is left.

    Raises:
      ValueError: the corpus is shorter than one window, or no whole window starts at `position`.
    """
    batches_per_epoch(tokens, B, T, horizon)
    stride, window = B * T, B * T + horizon
    if not 0 <= position <= len(tokens) - window:
        raise ValueError(f"position {position} leaves no window of {window:,} tokens in {len(tokens):,}")
    first, end, _ = rows.indices(B)
    ids = np.asarray(tokens[position + first * T : position + end * T + horizon], dtype=np.int32)
    next_position = position + stride
    if next_position + window > len(tokens):
        next_position = 0
    x, *y = (ids[i : len(ids) - horizon + i].reshape(-1, T) for i in range(horizon + 1))  # each (rows, T)
    return x, y[0] if horizon == 1 else np.stack(y), next_position


def batches_per_epoch(tokens: np.ndarray, B: int, T: int, horizon: int = 1) -> int:
    """How many batches start at 0, B*T, 2*B*T, ... before `next_batch` wraps: batch k starts at (k % this) * B*T.

    Raises:
      ValueError: B, T or horizon is below 1, or the corpus is shorter than one window of B*T + horizon tokens.
    """
    _require_sizes(B, T, horizon)
    if len(tokens) < B * T + horizon:
        raise ValueError(
            f"{len(tokens):,} tokens are too few for one batch: "
            f"B*T + {horizon} = {B}*{T} + {horizon} = {B * T + horizon:,} are needed"
        )
    return (len(tokens) - horizon) // (B * T)


def _require_sizes(B: int, T: int, horizon: int) -> None:
    if min(B, T, horizon) < 1:
        raise ValueError(f"B, T and horizon must be at least 1, not B={B}, T={T}, horizon={horizon}")


# ---- Windows in another order, of one text or several


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
    _require_sizes(B, T, horizon)
    if position < 0 or position % T:
        raise ValueError(f"position {position} is not between two windows of {T} tokens")
    first, end, _ = rows.indices(B)
    source, number = mixture_schedule(np.arange(position // T + first, position // T + end), weights)
    for i, N in enumerate(lengths):
        count = (N - horizon) // T
        if count < 1:
            raise ValueError(f"{N:,} tokens are too few for one window: T + {horizon} = {T + horizon:,} are needed")
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
        key = (seed, epoch, text) if text else (seed, epoch)  # the first text has the order that it has alone
        pieces.append(_permute_block(block, count, key)[offset : offset + end - first])
        first += len(pieces[-1])
    return np.concatenate(pieces)


@functools.lru_cache(maxsize=16)
def _permute_block(block: int, count: int, key: tuple[int, ...]) -> np.ndarray:
    """Part of an epoch's order: numpy permutes 1,024 windows in hardly more time than the 64 of a batch."""
    return permute(np.arange(block * BLOCK, min(count, (block + 1) * BLOCK)), count, key)


# ---- Examples


def next_examples(
    table: tuple[np.ndarray, ...], position: int, B: int, T: int, seed: int, rows: slice = slice(None)
) -> tuple[np.ndarray, ...]:
    """As `next_batch`, for a table of examples: B of its rows, reshuffled every epoch.

    An epoch is all rows once. A batch may hold the last rows of one epoch and the first of the next: none is left out.

    Args:
      table: arrays whose first axis is the same R rows of T tokens each.
      position: in tokens: k*T after k rows.
      seed: of the orders; the order of epoch e depends only on (seed, e).
      rows: which of the B rows to return.

    Returns:
      The rows of each array, int32, then the next position, position + B*T.
    """
    R = len(table[0])
    chosen = [epoch_order(R, seed, k // R)[k % R] for k in range(position // T, position // T + B)[rows]]
    return *(np.asarray(array[chosen], dtype=np.int32) for array in table), position + B * T


@functools.lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(R: int, seed: int, epoch: int) -> np.ndarray:
    """The order of R rows in an epoch: a permutation that depends only on the arguments."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(R)
