"""The batch at a position: a pure function whose whole state is one integer."""

import functools
from collections.abc import Sequence

import numpy as np

from jaxgpt.data.order import mixed, permuted
from jaxgpt.data.shards import Tokens

BLOCK = 1024  # windows of an order that are computed at once


def next_batch(
    tokens: np.ndarray, position: int, B: int, T: int, rows: slice = slice(None), n: int = 1
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut one batch out of the token stream and say where the next one starts.

    The "data loader lite" of Karpathy's build-nanogpt, without its hidden state: same arguments, same result.

    Args:
      tokens: the corpus on the host, shape (N,), any integer dtype; a memmap is read only where it is cut.
      position: where the batch starts, 0 <= position <= N - (B*T + n).
      B: sequences per batch.
      T: tokens per sequence.
      rows: which sequences are wanted, side by side; by default all B. Nothing else of the answer depends on it, so
        that several hosts can each cut their own part of one batch.
      n: how many of the tokens that follow y has; a batch is a window of B*T + n tokens, and the stride is B*T always.

    Returns:
      x: int32 (B, T), the tokens from `position` on; of `rows` alone.
      y: int32 (B, T), for every token of x the one that follows it; with n > 1 int32 (n, B, T), where y[i] has the
        tokens i + 1 places ahead.
      next_position: position + B*T, or 0 where no whole window of B*T + n tokens is left there.

    Raises:
      ValueError: the corpus is shorter than one window, or none starts at `position`.
    """
    batches_per_epoch(tokens, B, T, n)
    stride, window = B * T, B * T + n
    if not 0 <= position <= len(tokens) - window:
        raise ValueError(f"position {position} leaves no window of {window:,} tokens in {len(tokens):,}")
    first, end, _ = rows.indices(B)
    ids = np.asarray(tokens[position + first * T : position + end * T + n], dtype=np.int32)  # (rows*T + n,)
    next_position = position + stride
    if next_position + window > len(tokens):
        next_position = 0
    x, *y = (ids[i : len(ids) - n + i].reshape(-1, T) for i in range(n + 1))
    return x, y[0] if n == 1 else np.stack(y), next_position


def batches_per_epoch(tokens: np.ndarray, B: int, T: int, n: int = 1) -> int:
    """How many batches start at 0, B*T, 2*B*T, ... before `next_batch` wraps: batch k starts at (k % this) * B*T.

    Raises:
      ValueError: B, T or n is below 1, or the corpus is shorter than one window of B*T + n tokens.
    """
    _require_sizes(B, T, n)
    if len(tokens) < B * T + n:
        raise ValueError(
            f"{len(tokens):,} tokens are too few for one batch: B*T + {n} = {B}*{T} + {n} = {B * T + n:,} are needed"
        )
    return (len(tokens) - n) // (B * T)


def _require_sizes(B: int, T: int, n: int) -> None:
    if min(B, T, n) < 1:
        raise ValueError(f"B, T and n must be at least 1, not B={B}, T={T}, n={n}")


def next_windows(
    texts: Sequence[np.ndarray | Tokens],
    weights: tuple[int, ...],
    position: int,
    B: int,
    T: int,
    seed: int | None,
    rows: slice = slice(None),
    n: int = 1,
) -> tuple[np.ndarray, np.ndarray, int]:
    """As `next_batch`, of several texts or one, in an order of windows: each starts where `windows` says.

    Args:
      texts: what `next_batch` takes, each of at least T + n tokens.
      weights, seed: of the order, as `windows` has them.
      position: in tokens of the whole run: k*T when k windows were seen before, in all texts and epochs.

    Returns:
      x, y: int32 (B, T), of `rows` alone; with n > 1, y is (n, B, T).
      next_position: position + B*T.
    """
    of, starts = windows([len(text) for text in texts], weights, position, B, T, seed, rows, n)
    ids = np.empty((len(starts), T + n), np.int32)
    for i, text in enumerate(texts):
        _cut(text, starts, ids, None if len(texts) == 1 else np.flatnonzero(of == i))
    x, *y = (ids[:, i : i + T] for i in range(n + 1))
    return x, y[0] if n == 1 else np.stack(y), position + B * T


def _cut(text: np.ndarray | Tokens, starts: np.ndarray, ids: np.ndarray, rows: np.ndarray | None) -> None:
    """Fill these rows of ids, or all, each with the tokens from its start on."""
    length = ids.shape[1]
    if isinstance(text, Tokens) and len(text.shards) == 1:
        text = text.shards[0]
    if isinstance(text, Tokens):
        for row in range(len(ids)) if rows is None else rows.tolist():
            ids[row] = text[int(starts[row]) : int(starts[row]) + length]
        return
    # Every piece of this length there is, as the rows of a view: numpy copies those that are asked for in one go; not
    # more of them than malloc has memory at hand for, which it asks the system for from 128 KB on.
    every = np.ndarray((len(text) - length + 1, length), text.dtype, text, 0, 2 * text.strides)
    many = max(1, 40_000 // length)
    for first in range(0, len(ids) if rows is None else len(rows), many):
        now = slice(first, first + many) if rows is None else rows[first : first + many]
        ids[now] = every[starts[now]]


def windows(
    lengths: Sequence[int],
    weights: tuple[int, ...],
    position: int,
    B: int,
    T: int,
    seed: int | None,
    rows: slice = slice(None),
    n: int = 1,
) -> tuple[np.ndarray, np.ndarray]:
    """Which text each window of a batch is from, and at which of its tokens it starts.

    A text of N tokens has (N - n) // T windows of T tokens, side by side, and every epoch of it has all of them once.
    Window k of a run, k = position/T + row, depends on the lengths, weights, T and seed alone: not on B, nor on who
    cuts it.

    Args:
      lengths: N of each text.
      weights: whole numbers, how many windows each text has of their sum, as order.mixed deals them out.
      seed: of the permutation of each epoch of each text; None: from the first window to the last.

    Returns:
      The text's number and the token, int64 (rows,).

    Raises:
      ValueError: a text is shorter than one window, or the position is not between two.
    """
    _require_sizes(B, T, n)
    if position < 0 or position % T:
        raise ValueError(f"position {position} is not between two windows of {T} tokens")
    first, end, _ = rows.indices(B)
    text, number = mixed(np.arange(position // T + first, position // T + end), weights)
    for i, N in enumerate(lengths):
        count = (N - n) // T
        if count < 1:
            raise ValueError(f"{N:,} tokens are too few for one window: T + {n} = {T + n:,} are needed")
        if len(lengths) == 1:
            number = _in_epochs(number, count, seed, i)
        else:
            mine = text == i
            number[mine] = _in_epochs(number[mine], count, seed, i)
    return text, number * T


def _in_epochs(number: np.ndarray, n: int, seed: int | None, text: int) -> np.ndarray:
    """Which of the n windows of a text comes as its window number 0, 1, ... of a run; the numbers are consecutive."""
    if seed is None or not len(number):
        return number % n
    found, first, end = [], int(number[0]), int(number[-1]) + 1
    while first < end:
        epoch, window = divmod(first, n)
        block, at = divmod(window, BLOCK)
        key = (seed, epoch, text) if text else (seed, epoch)  # the first text has the order that it has alone
        found.append(_block(block, n, key)[at : at + end - first])
        first += len(found[-1])
    return np.concatenate(found)


@functools.lru_cache(maxsize=16)
def _block(block: int, n: int, key: tuple[int, ...]) -> np.ndarray:
    """Part of the order of an epoch: numpy permutes 1,024 windows in hardly more time than the 64 of a batch."""
    return permuted(np.arange(block * BLOCK, min(n, (block + 1) * BLOCK)), n, key)


def next_examples(
    table: tuple[np.ndarray, ...], position: int, B: int, T: int, seed: int, rows: slice = slice(None)
) -> tuple[np.ndarray, ...]:
    """As `next_batch`, of a table of examples: B of its rows in an order of their own in each epoch.

    An epoch is all rows once. A batch may hold the last rows of one and the first of the next: nothing is left out.

    Args:
      table: arrays whose first axis is the same R rows of T tokens each.
      position: in tokens: k*T when k rows were seen before.
      seed: of the orders; epoch e has one that depends on (seed, e) alone.
      rows: which of the B are wanted.

    Returns:
      The rows of each array, int32, then the next position, position + B*T.
    """
    R = len(table[0])
    chosen = [epoch_order(R, seed, k // R)[k % R] for k in range(position // T, position // T + B)[rows]]
    return *(np.asarray(array[chosen], dtype=np.int32) for array in table), position + B * T


@functools.lru_cache(maxsize=2)  # a batch may reach into the next epoch
def epoch_order(R: int, seed: int, epoch: int) -> np.ndarray:
    """The order of R rows in an epoch: a permutation that depends on the arguments alone."""
    return np.random.Generator(np.random.Philox(key=[seed, epoch])).permutation(R)
