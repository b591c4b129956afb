"""Attention: cuDNN's, or where there is no flash attention one with its softmax in memory, and its gradient."""

import functools
import math
from typing import Literal

import jax
import jax.numpy as jnp

from jaxgpt.models.ops.matmul import product, transposed


def attention(
    q: jax.Array,
    k: jax.Array,
    v: jax.Array,
    first: jax.Array | None,
    implementation: Literal["xla", "cudnn"],
    causal: bool = True,
) -> jax.Array:
    """As xla_attention, or by cuDNN; k and v, (B, T, K, D), may have fewer heads, each for H/K of q's in a row."""
    if implementation == "cudnn":
        mask = None if first is None else visible(q.shape[1], first, causal)[:, None]  # (B, 1, T, T)
        return jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=causal, implementation="cudnn")
    if k.shape[2] < q.shape[2]:
        k, v = (jnp.repeat(z, q.shape[2] // k.shape[2], axis=2) for z in (k, v))
    return xla_attention(q, k, v, first, causal)


def xla_attention(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None = None, causal: bool = True
) -> jax.Array:
    """softmax(q k^T / sqrt(D)) v over the positions that each one sees; all (B, T, H, D). Softmax in float32.

    Args:
      first: int32 (B, T), the first position of each one's document, which it sees no other of; None: 0.
      causal: whether each one sees the positions up to its own, or else the whole document.
    """
    B, T, H, D = q.shape
    if first is not None:
        first = jnp.repeat(first, H, axis=0)  # (B*H, T)
    y = _attend(*(z.swapaxes(1, 2).reshape(B * H, T, D) for z in (q, k, v)), first, causal)
    return y.reshape(B, H, T, D).swapaxes(1, 2)


def first_visible_positions(positions: jax.Array | None) -> jax.Array | None:
    """The first position in the sequence that each token sees, int (B, T), from the positions in the documents."""
    return None if positions is None else jnp.arange(positions.shape[1])[None] - positions


def visible(T: int, first: jax.Array | None, causal: bool = True) -> jax.Array:
    """Which positions (last axis) each position sees: bool (1, T, T), or (N, T, T) of `first`, int32 (N, T)."""
    if not causal:
        return jnp.ones((1, T, T), bool) if first is None else first[:, :, None] == first[:, None, :]
    mask = jnp.tril(jnp.ones((T, T), bool))[None]
    return mask if first is None else mask & (jnp.arange(T)[None, None] >= first[:, :, None])


@functools.partial(jax.custom_vjp, nondiff_argnums=(4,))
def _attend(q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None, causal: bool) -> jax.Array:
    """The same of one head a row, all (N, T, D).

    The gradient is written out so that in bfloat16 its products are bfloat16 as well: the scores are float32, and
    automatic differentiation multiplies their gradient, T x T, in float32. What is saved for it is T x T once.
    """
    return _forward(q, k, v, first, causal)[0]


def _forward(
    q: jax.Array, k: jax.Array, v: jax.Array, first: jax.Array | None, causal: bool
) -> tuple[jax.Array, tuple[jax.Array, ...]]:
    T, D = q.shape[1:]
    scores = product(q, transposed(k), jnp.float32) / math.sqrt(D)  # (N, T, T)
    weights = jax.nn.softmax(jnp.where(visible(T, first, causal), scores, -jnp.inf)).astype(v.dtype)
    y = product(weights, v).astype(v.dtype)
    return y, (q, k, v, weights, y)


def _backward(causal: bool, saved: tuple[jax.Array, ...], g: jax.Array) -> tuple[jax.Array, ...]:
    q, k, v, weights, y = saved
    dweights = product(g, transposed(v), jnp.float32)
    # Softmax's gradient takes off their mean under the weights, which is g . y (FlashAttention, Dao et al., 2022, B.2).
    delta = (g.astype(jnp.float32) * y.astype(jnp.float32)).sum(-1, keepdims=True)
    dscores = (weights.astype(jnp.float32) * (dweights - delta) / math.sqrt(q.shape[-1])).astype(q.dtype)
    dk, dv = (product(transposed(z, in_float32_too=True), x) for z, x in ((dscores, q), (weights, g)))
    return *(gradient.astype(q.dtype) for gradient in (product(dscores, k), dk, dv)), None


_attend.defvjp(_forward, _backward)
