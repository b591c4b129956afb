import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.models.ops import cross_entropy as ops
from jaxgpt.models.ops.cross_entropy import cross_entropy, log_likelihoods

B, T, C, V = 3, 21, 20, 61


def arrays(dtype=jnp.float32, rows=V, B=B, T=T):
    numbers = np.random.default_rng(0)
    x, table = numbers.standard_normal((B, T, C)), numbers.standard_normal((rows, C))
    y = numbers.integers(0, V, (B, T), dtype=np.int32)
    return jnp.asarray(x, dtype), jnp.asarray(table, jnp.float32), jnp.asarray(y)


def plain(x, table, y, soft_cap=None):
    """Through the logits of all tokens at once, and automatic differentiation."""
    logits = jnp.einsum("btc,vc->btv", x, table.astype(x.dtype))[..., :V].astype(jnp.float32)
    logits = soft_cap * jnp.tanh(logits / soft_cap) if soft_cap else logits
    return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()


@pytest.mark.parametrize("rows", [V, 128])
@pytest.mark.parametrize("chunk", [1, 7, 10, 32, 10**6])  # also where it divides neither B nor T
def test_equals_the_plain_loss_and_its_gradients(monkeypatch, chunk, rows):
    monkeypatch.setattr(ops, "CHUNK", chunk)
    x, table, y = arrays(rows=rows)
    expected, (dx, dtable) = jax.value_and_grad(plain, argnums=(0, 1))(x, table, y)
    ours = jax.jit(jax.value_and_grad(lambda x, table: cross_entropy(x, table, y, V), argnums=(0, 1)))
    total, (our_dx, our_dtable) = ours(x, table)
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_allclose(cross_entropy(x, table, y, V), expected, rtol=1e-6)  # and where no gradient is asked for
    np.testing.assert_allclose(our_dx, dx, atol=1e-6 * float(jnp.abs(dx).max()))
    np.testing.assert_allclose(our_dtable, dtable, atol=1e-6 * float(jnp.abs(dtable).max()))
    assert not np.asarray(our_dtable[V:]).any()


def test_the_gradient_of_a_share_of_the_loss_is_that_share(monkeypatch):
    monkeypatch.setattr(ops, "CHUNK", 10)
    x, table, y = arrays()
    whole, part = (jax.grad(lambda table, s=s: s * cross_entropy(x, table, y, V))(table) for s in (1.0, 0.125))
    np.testing.assert_allclose(part, whole / 8, atol=1e-6)


@pytest.mark.parametrize("dtype", [jnp.float32, pytest.param(jnp.bfloat16, marks=pytest.mark.slow)])
def test_a_soft_cap_is_in_the_loss_and_in_its_gradients(monkeypatch, dtype):
    monkeypatch.setattr(ops, "CHUNK", 10)
    x, table, y = arrays(dtype, rows=64)
    slope = jax.jit(jax.value_and_grad(cross_entropy, argnums=(0, 1)), static_argnums=(3, 4))
    total, grads = slope(4 * x, table, y, V, 3.0)
    exact, expected = jax.value_and_grad(plain, argnums=(0, 1))(4 * x.astype(jnp.float32), table, y, 3.0)
    rounding = 1e-6 if dtype == jnp.float32 else 0.02
    np.testing.assert_allclose(total, exact, rtol=rounding)
    for found, wanted in zip(grads, expected, strict=True):
        np.testing.assert_allclose(found.astype(jnp.float32), wanted, atol=rounding * float(jnp.abs(wanted).max()))


def test_in_bfloat16_the_loss_is_right_to_its_rounding():
    x, table, y = arrays(jnp.bfloat16)
    total, dtable = jax.value_and_grad(cross_entropy, argnums=1)(x, table, y, V)
    assert total.dtype == dtable.dtype == jnp.float32
    exact, exact_dtable = jax.value_and_grad(plain, argnums=1)(x.astype(jnp.float32), table, y)
    np.testing.assert_allclose(total, exact, rtol=0.01)
    np.testing.assert_allclose(dtable, exact_dtable, atol=0.02 * float(jnp.abs(exact_dtable).max()))


def test_an_id_below_0_is_not_counted(monkeypatch):
    monkeypatch.setattr(ops, "CHUNK", 10)
    x, table, y = arrays()
    total, (dx, dtable) = jax.value_and_grad(cross_entropy, argnums=(0, 1))(x, table, y.at[1:].set(-1), V)
    expected, (dx_0, dtable_0) = jax.value_and_grad(plain, argnums=(0, 1))(x[:1], table, y[:1])
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_allclose(dx[:1], dx_0, atol=1e-5)
    np.testing.assert_allclose(dtable, dtable_0, atol=1e-5)
    assert not np.asarray(dx[1:]).any()


def test_losses_of_large_logits_are_finite():
    x, table, y = arrays()
    total, grads = jax.value_and_grad(cross_entropy)(1e4 * x, table, y, V)
    assert np.isfinite(total) and np.isfinite(grads).all()


@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_memory_does_not_grow_with_the_logits_of_all_tokens(monkeypatch, dtype):
    """Eight times the tokens: the plain loss needs eight times the logits, the chunked one what its input is longer."""
    monkeypatch.setattr(ops, "CHUNK", 512)

    def temporary(function, T):
        shapes = jax.ShapeDtypeStruct((4, T, 32), dtype), jax.ShapeDtypeStruct((4000, 32), jnp.float32)
        y = jax.ShapeDtypeStruct((4, T), jnp.int32)
        compiled = jax.jit(jax.value_and_grad(function, argnums=(0, 1))).lower(*shapes, y).compile()
        return compiled.memory_analysis().temp_size_in_bytes

    def plain(x, table, y):
        logits = jnp.einsum("btc,vc->btv", x, table.astype(x.dtype)).astype(jnp.float32)
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).sum()

    def squares(x, table, y):
        return (log_likelihoods(x, table, y, 4000) ** 2).sum()

    logits = 4 * (1024 - 128) * 4000 * dtype.dtype.itemsize
    assert temporary(plain, 1024) - temporary(plain, 128) > logits
    for chunked, share in ((lambda x, table, y: cross_entropy(x, table, y, 4000), 8), (squares, 4)):
        assert temporary(chunked, 1024) - temporary(chunked, 128) < logits / share


@pytest.mark.parametrize("soft_cap, rows", [(0.0, V), (3.0, 64)])
@pytest.mark.parametrize("chunk", [7, 10, 10**6])
def test_log_likelihoods_and_any_weighted_sum_of_them_equal_the_plain_ones(monkeypatch, chunk, soft_cap, rows):
    """Weights of both signs, by a function of the sums of all: no weight is known before every log-probability is."""
    monkeypatch.setattr(ops, "CHUNK", chunk)
    x, table, y = arrays(rows=rows)
    y = y.at[0, 5:].set(-1)

    def plain_log_likelihoods(x, table):
        logits = jnp.einsum("btc,vc->btv", x, table)[..., :V]
        logits = soft_cap * jnp.tanh(logits / soft_cap) if soft_cap else logits
        log_p = jax.nn.log_softmax(logits)
        return jnp.where(y >= 0, jnp.take_along_axis(log_p, jnp.maximum(y, 0)[..., None], -1)[..., 0], 0)

    def mixed(values):
        return jnp.tanh(0.1 * (values[0].sum() - values[1].sum())) + (values**2).mean()

    found = jax.jit(lambda x, table: log_likelihoods(x, table, y, V, soft_cap))(x, table)
    np.testing.assert_allclose(found, plain_log_likelihoods(x, table), atol=1e-5)
    grads = jax.jit(jax.grad(lambda *args: mixed(log_likelihoods(*args, y, V, soft_cap)), argnums=(0, 1)))(x, table)
    expected = jax.grad(lambda *args: mixed(plain_log_likelihoods(*args)), argnums=(0, 1))(x, table)
    for ours, theirs in zip(grads, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-5 * float(jnp.abs(theirs).max()))
