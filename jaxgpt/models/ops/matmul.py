"""The linear layer of GPT-2, forward and backward, in the form that XLA computes fastest."""

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
    return times_transposed(g, w), product(transposed(x), g)


matmul.defvjp(_forward, _backward)


def product(a: jax.Array, b: jax.Array, written: jnp.dtype | None = None) -> jax.Array:
    """a @ b of matrices of one dtype, summed in float32, as float32 (..., N, M).

    A GPU rounds the sums to `written` on their way to memory, which by default is the operands' dtype; a CPU does not.
    """
    # float32 shall mean float32: without this, a GPU multiplies it in TF32.
    precision = jax.lax.Precision.HIGHEST if a.dtype == jnp.float32 else jax.lax.Precision.DEFAULT
    dot = functools.partial(jnp.matmul, precision=precision)
    return jax.lax.platform_dependent(
        a,
        b,
        cpu=lambda a, b: dot(a, b, preferred_element_type=jnp.float32),
        default=lambda a, b: dot(a, b, preferred_element_type=written or a.dtype).astype(jnp.float32),
    )


def transposed(x: jax.Array, in_float32_too: bool = False) -> jax.Array:
    """Matrices transposed. Where that is faster they are laid out in memory: on a CPU, in bfloat16 or if so asked."""

    def laid_out(x: jax.Array) -> jax.Array:
        return with_layout_constraint(x.mT, Layout(major_to_minor=tuple(range(x.ndim))))

    if x.dtype == jnp.float32 and not in_float32_too:
        return x.mT
    return jax.lax.platform_dependent(x, cpu=laid_out, default=lambda x: x.mT)


def times_transposed(a: jax.Array, b: jax.Array) -> jax.Array:
    """a @ b.T in their dtype, summed in float32: (N, I) and (M, I) to (N, M).

    A CPU in bfloat16 lays out in memory what is smaller: b, or else a and the result.
    """
    N, (M, inner) = a.shape[0], b.shape

    def plain(a: jax.Array, b: jax.Array) -> jax.Array:
        return product(a, transposed(b)).astype(a.dtype)

    def turned(a: jax.Array, b: jax.Array) -> jax.Array:
        return transposed(product(b, transposed(a)).astype(a.dtype))

    if a.dtype == jnp.float32 or N * (inner + M) >= M * inner:
        return plain(a, b)
    return jax.lax.platform_dependent(a, b, cpu=turned, default=plain)


@jax.custom_vjp
def add_bias(y: jax.Array, b: jax.Array) -> jax.Array:
    """y + b of (N, O) and float32 (O,), in y's dtype; b's gradient is summed in float32."""
    return y + b[None].astype(y.dtype)


def _add_bias_backward(_: None, g: jax.Array) -> tuple[jax.Array, jax.Array]:
    # XLA's CPU backend sums columns slowly, in bfloat16 by way of a float32 copy; it multiplies by ones fast.
    ones = jnp.ones((1, g.shape[0]), g.dtype)
    return g, jax.lax.platform_dependent(
        g, cpu=lambda g: product(ones, g)[0], default=lambda g: g.astype(jnp.float32).sum(0)
    )


add_bias.defvjp(lambda y, b: (add_bias(y, b), None), _add_bias_backward)
