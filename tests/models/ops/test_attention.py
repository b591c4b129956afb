import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.ops.attention import xla_attention


def arrays(dtype, T=24):
    numbers = np.random.default_rng(0)
    return tuple(jnp.asarray(numbers.standard_normal((2, T, 3, 8)), dtype) for _ in range(4))  # q, k, v, g


def exact(q, k, v, g):
    """In float64, a head and a position at a time: what it gives, and the gradients by q, k, v."""
    q, k, v, g = (np.asarray(z.astype(jnp.float32), np.float64) for z in (q, k, v, g))
    y, dq, dk, dv = (np.zeros_like(q) for _ in range(4))
    for b, t, h in np.ndindex(q.shape[:3]):
        keys, values = k[b, : t + 1, h], v[b, : t + 1, h]
        weights = np.exp(keys @ q[b, t, h] / np.sqrt(8))
        weights /= weights.sum()
        y[b, t, h] = weights @ values
        jacobian = np.diag(weights) - np.outer(weights, weights)  # of softmax
        by_scores = jacobian @ (values @ g[b, t, h]) / np.sqrt(8)
        dq[b, t, h] = by_scores @ keys
        dk[b, : t + 1, h] += np.outer(by_scores, q[b, t, h])
        dv[b, : t + 1, h] += np.outer(weights, g[b, t, h])
    return y, dq, dk, dv


@pytest.mark.parametrize("dtype, rounding", [(jnp.float32, 2e-6), (jnp.bfloat16, 0.02)])
def test_it_and_its_gradients_are_the_formulas(dtype, rounding):
    *qkv, g = arrays(dtype)
    y, gradients = jax.vjp(jax.jit(xla_attention), *qkv)
    for ours, theirs in zip((y, *gradients(g)), exact(*qkv, g), strict=True):
        assert ours.dtype == dtype
        np.testing.assert_allclose(np.asarray(ours, np.float64), theirs, atol=rounding * np.abs(theirs).max())


def test_what_comes_later_changes_nothing():
    q, k, v, _ = arrays(jnp.float32)
    attend = jax.jit(xla_attention)
    later = attend(q, k.at[:, 10:].set(7.0), v.at[:, 10:].set(9.0))
    assert np.array_equal(later[:, :10], attend(q, k, v)[:, :10])


def test_in_bfloat16_every_product_is_of_bfloat16():
    *qkv, g = arrays(jnp.bfloat16)
    text = jax.jit(lambda g, *qkv: jax.vjp(xla_attention, *qkv)[1](g)).lower(g, *qkv).as_text()
    dots = [line for line in text.splitlines() if "stablehlo.dot_general" in line]
    assert len(dots) >= 5  # q k^T for the weights, and four backward
    for dot in dots:
        assert dot.rsplit(" : ", 1)[1].split(" -> ")[0].count("xbf16>") == 2, dot
