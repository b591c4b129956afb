"""How well an encoder tells each token of a text from all others: Salazar et al. (2020), arXiv 1910.14659."""

import math
from collections.abc import Callable, Iterable, Iterator

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models.base import Model, matmul_precision, unembed
from jaxgpt.runtime import device


def pseudo_likelihood(
    model: Model,
    windows: Iterable[np.ndarray],
    mask: int,
    ordinary: np.ndarray,
    batch_size: int = 8,
    on_progress: Callable[[int], None] = lambda done: None,
) -> Iterator[dict[str, tuple[float, float]]]:
    """Hide each token in turn, and measure how likely the model finds it, given all others of its window.

    A window of T tokens costs T forward passes.

    Args:
      windows: int32 (T,) each, T the same for few of them: another T is another program.
      mask: the id that takes a token's place.
      ordinary: bool (V,), the ids that are measured; special ones are not.
      batch_size: copies of a window at a time, each with another token hidden.
      on_progress: called after each window with 1.

    Returns:
      For each window the sums over its tokens and their number: `loss`, in nats; `loss_squared`, of the squares;
      `bits_per_masked_token`, the loss in bits.
    """
    for tokens in windows:
        columns = np.flatnonzero(ordinary[tokens]).astype(np.int32)
        each, n = hide_each(model, tokens, columns, mask, batch_size), float(len(columns))
        total = float(each.sum())
        yield {
            "loss": (total, n),
            "loss_squared": (float((each**2).sum()), n),
            "bits_per_masked_token": (total / math.log(2), n),
        }
        on_progress(1)


def hide_each(
    model: Model,
    tokens: np.ndarray,
    columns: np.ndarray,
    mask: int,
    batch_size: int,
    positions: np.ndarray | None = None,
) -> np.ndarray:
    """The losses of some tokens, each hidden alone, in nats, float64 (N,).

    Args:
      tokens: int32 (T,); positions: int32 (T,), where each stands in its document; None: it is one document.
      columns: int32 (N,), the places of those that are measured.
      batch_size: copies of the tokens at a time.
    """
    losses = [np.zeros(0)]
    for start in range(0, len(columns), batch_size):
        part = columns[start : start + batch_size]
        padded = np.pad(part, (0, batch_size - len(part)))
        arrays = device.put((tokens, padded, np.int32(mask), positions))
        losses.append(jax.device_get(hidden_token_losses(model, *arrays))[: len(part)])
    return np.concatenate(losses, dtype=np.float64)


@jax.jit
def hidden_token_losses(
    model: Model, tokens: jax.Array, columns: jax.Array, mask: jax.Array, positions: jax.Array | None = None
) -> jax.Array:
    """The cross-entropy of some tokens, each hidden alone, in nats, float32 (B,).

    Args:
      tokens: int32 (T,); positions: int32 (T,), where each stands in its document; None: it is one document.
      columns: int32 (B,), where each of them stands.
      mask: int32 (), the id that takes its place.
    """
    is_hidden = jnp.arange(len(tokens))[None] == columns[:, None]  # (B, T)
    places = None if positions is None else jnp.broadcast_to(positions, is_hidden.shape)
    hidden = model.hidden(jnp.where(is_hidden, mask, tokens[None]), places)  # (B, T, C)
    at_columns = jnp.take_along_axis(hidden, columns[:, None, None], axis=1)[:, 0]  # (B, C)
    with matmul_precision(model.config):
        log_p = jax.nn.log_softmax(unembed(model, at_columns))  # (B, V)
    return -jnp.take_along_axis(log_p, tokens[columns][:, None], axis=-1)[:, 0]
