"""The matrix product of GPT-2's layers, forward and backward, in the form that XLA computes fastest."""

import functools

import jax
import jax.numpy as jnp
from jax.experimental.layout import Layout, with_layout_constraint


@jax.custom_vjp
def matmul(x: jax.Array, w: jax.Array) -> jax.Array:
    """x @ w in x's dtype, with every sum in float32.

    Its gradient is written out because XLA's CPU backend multiplies bfloat16 fast only if both operands lie row by row
    and the result is float32; what automatic differentiation makes is neither.

    Args:
      x: float32 or bfloat16 (N, I).
      w: float32 (I, O), and so is its gradient, which a GPU has rounded to x's dtype.

    Returns:
      (N, O)
    """
    return product(x, w.astype(x.dtype)).astype(x.dtype)


def _forward(x: jax.Array, w: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    w = w.astype(x.dtype)
    return product(x, w).astype(x.dtype), (x, w)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    x, w = saved
    return product(g, transposed(w)).astype(x.dtype), product(transposed(x), g)


matmul.defvjp(_forward, _backward)


def product(a: jax.Array, b: jax.Array, written: jnp.dtype | None = None) -> jax.Array:
    """a @ b of two matrices of one dtype, summed in float32, as float32 (N, M).

    A GPU rounds the sums to `written` on their way to memory, which by default is the operands' dtype; a CPU does not.
    """
    # float32 shall mean float32: without this, a GPU multiplies it in TF32.
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dot = functools.partial(jnp.dot, precision=precision)
    return jax.lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: dot(a, b, preferred_element_type=jnp.float32),
        default=lambda a, b: dot(a, b, preferred_element_type=written or a.dtype).astype(jnp.float32),
    )


def transposed(x: jax.Array) -> jax.Array:
    """x.T of a matrix; on a CPU in bfloat16 it is laid out in memory, elsewhere the product reads it as it is."""
    if x.dtype == jnp.float32:
        return x.T
    return jax.lax.platform_dependent(
        x, cpu=lambda x: with_layout_constraint(x.T, Layout(major_to_minor=(0, 1))), default=lambda x: x.T
    )
