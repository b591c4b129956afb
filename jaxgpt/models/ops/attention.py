"""Causal attention with its softmax in memory, for where there is no flash attention, and its gradient."""

import math

import jax
import jax.numpy as jnp

from jaxgpt.models.ops.matmul import product, transposed


def causal_attention(q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None = None) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v over the positions up to each one's own; all (B, T, H, D). Softmax in float32.

    Args:
      first: int32 (B, T), the first position that each one sees; None: 0.
    """
    B, T, H, D = q.shape
    if first is not None:
        first = jnp.repeat(first, H, axis=0)  # (B*H, T)
    y = _attend(*(z.swapaxes(1, 2).reshape(B * H, T, D) for z in (q, k, v)), first)
    return y.reshape(B, H, T, D).swapaxes(1, 2)


def visible(T: int, first: jax.Array | None) -> jax.Array:
    """Which positions (last axis) each position sees: bool (1, T, T), or (N, T, T) of `first`, int32 (N, T)."""
    mask = jnp.tril(jnp.ones((T, T), bool))[None]
    return mask if first is None else mask & (jnp.arange(T)[None, None] >= first[:, :, None])


@jax.custom_vjp
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None) -> jax.Array:
    """The same of one head a row, all (N, T, D).

    The gradient is written out so that in bfloat16 its products are bfloat16 as well: the scores are float32, and
    automatic differentiation multiplies their gradient, T x T, in float32. What is saved for it is T x T once.
    """
    return _forward(q, k, v, first)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    T, D = q.shape[1:]
    scores = product(q, transposed(k), jnp.float32) / math.sqrt(D)  # (N, T, T)
    weights = jax.nn.softmax(jnp.where(visible(T, first), scores, -jnp.inf)).astype(v.dtype)
    y = product(weights, v).astype(v.dtype)
    return y, (q, k, v, weights, y)


def _backward(saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, weights, y = saved
    dweights = product(g, transposed(v), jnp.float32)
    # Softmax's gradient takes off their mean under the weights, which is g . y (FlashAttention, Dao et al., 2022, B.2).
    delta = (g.astype(jnp.float32) * y.astype(jnp.float32)).sum(-1, keepdims=True)
    dscores = (weights.astype(jnp.float32) * (dweights - delta) / math.sqrt(q.shape[-1])).astype(q.dtype)
    dk, dv = (product(transposed(z, in_float32_too=True), x) for z, x in ((dscores, q), (weights, g)))
    return *(gradient.astype(q.dtype) for gradient in (product(dscores, k), dk, dv)), None


_attend.defvjp(_forward, _backward)
