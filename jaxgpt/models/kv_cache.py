"""A key-value cache: attention's keys and values of earlier tokens, computed once and looked up by every later token.

Letters: B texts, T new tokens, S columns of the cache, H heads, D head size.
"""

import functools

import jax
import jax.numpy as jnp

READ = 128  # columns of the cache that attention reads at a time: it stops where the text ends, not the cache

KeysAndValues = tuple[jax.Array, jax.Array]  # of one layer, each (B, H, S, D)


def empty(B: int, H: int, length: int, D: int, dtype: jax.typing.DTypeLike) -> KeysAndValues:
    """A layer's cache for `length` tokens, rounded up to a multiple of READ."""
    shape = (B, H, -(-length // READ) * READ, D)
    return jnp.zeros(shape, dtype), jnp.zeros(shape, dtype)


def columns_from(column: jax.Array, T: int) -> jax.Array:
    """The columns of T tokens from one on, () or (B,): int (1, T) or (B, T)."""
    return column.reshape(-1, 1) + jnp.arange(T)[None]


def write(cache: jax.Array, new: jax.Array, column: jax.Array) -> jax.Array:
    """The cache, (B, H, S, D), with what is new, (B, H, T, D), from a column on, () or (B,)."""
    if column.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, column, axis=2)
    write_text = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
    return jax.vmap(write_text)(cache, new, column)


@jax.named_scope("attention")
def attend(q: jax.Array, keys: jax.Array, values: jax.Array, columns: jax.Array) -> jax.Array:
    """Causal attention to the cache, READ columns at a time, as many as the longest text is long.

    The softmax is built up as in Milakov & Gimelshein (2018), "Online normalizer calculation for softmax".

    Args:
      q: (B, H, T, D). keys, values: (B, H, S, D).
      columns: int (B, T) or (1, T), of each query; it sees those up to its own.

    Returns:
      (B, H, T, D)
    """
    scale, S = q.shape[-1] ** -0.5, keys.shape[2]

    def read(i: jax.Array, carry: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        highest, total, y = carry
        k, v = (jax.lax.dynamic_slice_in_dim(z, i * READ, READ, axis=2) for z in (keys, values))
        columns_read = (i * READ + jnp.arange(READ))[None, None]  # (1, 1, READ)
        visible = columns_read <= columns[:, :, None]  # (B, T, READ)
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32) * scale
        scores = jnp.where(visible[:, None], scores, -jnp.inf)
        new_highest = jnp.maximum(highest, scores.max(-1, keepdims=True))
        weights, shrink = jnp.exp(scores - new_highest), jnp.exp(highest - new_highest)
        weighted_values = jnp.einsum("bhts,bhsd->bhtd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return new_highest, total * shrink + weights.sum(-1, keepdims=True), y * shrink + weighted_values

    lowest = jnp.full((*q.shape[:3], 1), jnp.finfo(jnp.float32).min)
    initial = (lowest, jnp.zeros_like(lowest), jnp.zeros(q.shape, jnp.float32))
    last = jnp.minimum(columns.max(), S - 1)  # of a text that is done, a column may be beyond
    _, total, y = jax.lax.fori_loop(0, last // READ + 1, read, initial)
    return (y / total).astype(q.dtype)
