"""The batch at a position: pure functions whose whole state is one integer."""

import numpy as np


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
    require_sizes(B, T, horizon)
    if len(tokens) < B * T + horizon:
        raise ValueError(
            f"too few tokens for one batch: {len(tokens):,}, and "
            f"B*T + {horizon} = {B}*{T} + {horizon} = {B * T + horizon:,} are needed"
        )
    return (len(tokens) - horizon) // (B * T)


def require_sizes(B: int, T: int, horizon: int) -> None:
    if min(B, T, horizon) < 1:
        raise ValueError(f"B, T and horizon must be at least 1, not B={B}, T={T}, horizon={horizon}")
