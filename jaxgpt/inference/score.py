"""How likely a model finds given texts: the log likelihood of a continuation, summed over its tokens."""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.errors import UsageError
from jaxgpt.models.base import Model, matmul_precision, unembed
from jaxgpt.runtime import device

MIN_T = 32  # tokens: shorter sequences are padded to it; a program of their own would gain little
CHUNK = 256  # tokens whose logits exist at a time: 50 MB of float32

Request = tuple[Sequence[int], Sequence[int]]


class Score(NamedTuple):
    """A continuation's score.

    Attributes:
      log_likelihood: the sum of the logarithms of its tokens' probabilities, in nats.
      is_greedy: whether each of its tokens was the likeliest: greedy generation would write it.
    """

    log_likelihood: float
    is_greedy: bool


def score(
    model: Model,
    requests: Sequence[Request],
    batch_size: int = 8,
    on_progress: Callable[[int], None] = lambda done: None,
) -> list[Score]:
    """Score continuations, each as if it were alone.

    Sequences are padded on the right, to a power of two or block_size, and every batch has the same number of them: so
    a handful of programs serve all requests. The longest come first, so that memory runs out at once or never.

    Args:
      requests: token ids of a context and of its continuation, at least one each. Where they exceed
        block_size + 1 together, the context loses its beginning.
      on_progress: called after each batch with the number of its requests.

    Raises:
      UsageError: a context or continuation is empty, a continuation longer than block_size, an id out of range.
    """
    _check(model, requests, batch_size)
    scores: dict[int, Score] = {}
    order = sorted(range(len(requests)), key=lambda i: -_num_inputs(model, requests[i]))
    while order:
        T = _pad_length(_num_inputs(model, requests[order[0]]), model.config.block_size)
        batch = [
            i for i in order[:batch_size] if _pad_length(_num_inputs(model, requests[i]), model.config.block_size) == T
        ]
        order = order[len(batch) :]
        scores |= zip(batch, _score_batch(model, [requests[i] for i in batch], batch_size, T), strict=True)
        on_progress(len(batch))
    return [scores[i] for i in range(len(requests))]


def is_cut(request: Request, block_size: int) -> bool:
    """Whether a request is too long for the model, so that its context loses its beginning."""
    return sum(map(len, request)) > block_size + 1


def _num_inputs(model: Model, request: Request) -> int:
    """Tokens that the model reads: all but the last, which is only predicted."""
    return min(sum(map(len, request)) - 1, model.config.block_size)


def _pad_length(length: int, block_size: int) -> int:
    return min(max(MIN_T, 1 << (length - 1).bit_length()), block_size)


def _score_batch(model: Model, requests: list[Request], batch_size: int, T: int) -> list[Score]:
    idx = np.zeros((batch_size, T), np.int32)
    positions, targets = [], []  # which of the batch_size * T positions predict a continuation's token, and the token
    for row, (context, continuation) in enumerate(requests):
        tokens = [*context, *continuation][-(model.config.block_size + 1) :]
        end = len(tokens) - 1
        idx[row, :end] = tokens[:-1]
        positions += range(row * T + end - len(continuation), row * T + end)
        targets += continuation
    count, padded = len(positions), -(-batch_size * T // CHUNK) * CHUNK
    padding = [0] * (padded - count)
    losses, hits = score_tokens(
        model,
        *device.put((idx, *(np.array(ids + padding, np.int32) for ids in (positions, targets)), np.int32(count))),
    )
    losses, hits = jax.device_get((losses, hits))
    ends = np.cumsum([len(continuation) for _, continuation in requests])[:-1]
    return [
        Score(float(log_probabilities.sum(dtype=np.float64)), bool(greedy.all()))
        for log_probabilities, greedy in zip(np.split(losses[:count], ends), np.split(hits[:count], ends), strict=True)
    ]


@jax.jit
def score_tokens(
    model: Model, idx: jax.Array, positions: jax.Array, targets: jax.Array, count: jax.Array
) -> tuple[jax.Array, jax.Array]:
    """Log probabilities of some tokens; logits are made of the positions before them alone, CHUNK at a time.

    Args:
      idx: int32 (B, T), tokens.
      positions: int32 (N,), positions in idx, counted through all of it; N is a multiple of CHUNK.
      targets: int32 (N,), the token that follows each.
      count: int32 (), how many of the N are asked for; what is returned beyond them is arbitrary.

    Returns:
      The log probability of each target, in nats, float32 (N,), and whether none is likelier, bool (N,).
    """
    with matmul_precision(model.config):
        x = model.hidden(idx).reshape(idx.size, -1)  # (B*T, C)

        def chunk(i: jax.Array, arrays: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
            position = jax.lax.dynamic_slice_in_dim(positions, i * CHUNK, CHUNK)
            target = jax.lax.dynamic_slice_in_dim(targets, i * CHUNK, CHUNK)
            logits = unembed(model, x[position])  # (CHUNK, V)
            target_logits = jnp.take_along_axis(logits, target[:, None], axis=-1)[:, 0]
            parts = target_logits - jax.nn.logsumexp(logits, axis=-1), jnp.argmax(logits, axis=-1) == target
            return tuple(
                jax.lax.dynamic_update_slice_in_dim(array, part, i * CHUNK, axis=0)
                for array, part in zip(arrays, parts, strict=True)
            )

        zeros = jnp.zeros(positions.shape, jnp.float32), jnp.zeros(positions.shape, bool)
        return jax.lax.fori_loop(0, (count + CHUNK - 1) // CHUNK, chunk, zeros)


def _check(model: Model, requests: Sequence[Request], batch_size: int) -> None:
    V, context_size = model.config.vocab_size, model.config.block_size
    if batch_size < 1:
        raise UsageError(f"batch_size {batch_size} is out of range: it must be at least 1")
    for context, continuation in requests:
        if not context or not continuation:
            raise UsageError("an empty context or continuation can't be scored; <|endoftext|> begins a document")
        if len(continuation) > context_size:
            raise UsageError(f"a continuation of {len(continuation):,} tokens: the model takes up to {context_size:,}")
        if not all(0 <= token < V for part in (context, continuation) for token in part):
            raise UsageError(f"a token is beyond the model's vocabulary, ids 0 to {V - 1:,}")
