"""The batch at a position: a pure function whose whole state is one integer."""

import functools

import numpy as np


def next_batch(
    tokens: np.ndarray, position: int, B: int, T: int, rows: slice = slice(None)
) -> tuple[np.ndarray, np.ndarray, int]:
    """Cut one batch out of the token stream and say where the next one starts.

    The "data loader lite" of Karpathy's build-nanogpt, without its hidden state: same arguments, same result.

    Args:
      tokens: the corpus on the host, shape (N,), any integer dtype; a memmap is read only where it is cut.
      position: where the batch starts, 0 <= position <= N - (B*T + 1).
      B: sequences per batch.
      T: tokens per sequence.
      rows: which sequences are wanted, side by side; by default all B. Nothing else of the answer depends on it, so
        that several hosts can each cut their own part of one batch.

    Returns:
      x: int32 (B, T), the tokens from `position` on; of `rows` alone.
      y: int32 (B, T), for every token of x the one that follows it.
      next_position: position + B*T, or 0 where no whole window of B*T + 1 tokens is left there.

    Raises:
      ValueError: the corpus is shorter than one window, or none starts at `position`.
    """
    batches_per_epoch(tokens, B, T)
    stride, window = B * T, B * T + 1
    if not 0 <= position <= len(tokens) - window:
        raise ValueError(f"position {position} leaves no window of {window:,} tokens in {len(tokens):,}")
    first, end, _ = rows.indices(B)
    ids = np.asarray(tokens[position + first * T : position + end * T + 1], dtype=np.int32)  # (rows*T + 1,)
    next_position = position + stride
    if next_position + window > len(tokens):
        next_position = 0
    return ids[:-1].reshape(-1, T), ids[1:].reshape(-1, T), next_position


def batches_per_epoch(tokens: np.ndarray, B: int, T: int) -> int:
    """How many batches start at 0, B*T, 2*B*T, ... before `next_batch` wraps: batch k starts at (k % this) * B*T.

    Raises:
      ValueError: B or T is below 1, or the corpus is shorter than one window of B*T + 1 tokens.
    """
    if B < 1 or T < 1:
        raise ValueError(f"B and T must be at least 1, not B={B}, T={T}")
    if len(tokens) < B * T + 1:
        raise ValueError(
            f"{len(tokens):,} tokens are too few for one batch: B*T + 1 = {B}*{T} + 1 = {B * T + 1:,} are needed"
        )
    return (len(tokens) - 1) // (B * T)


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
