import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.kv_cache import READ, attend, columns_from, empty, write


def test_an_empty_cache_is_whole_reads():
    for length, columns in ((1, READ), (READ, READ), (READ + 1, 2 * READ)):
        keys, values = empty(2, 3, length, 5, "bfloat16")
        assert keys.shape == values.shape == (2, 3, columns, 5) and keys.dtype == jnp.bfloat16
        assert not keys.any()


@pytest.mark.parametrize("column", [np.int32(7), np.array([0, 120])], ids=["together", "each"])
def test_what_is_new_is_written_from_a_column_on(column):
    rng = np.random.default_rng(0)
    cache, new = rng.normal(size=(2, 3, READ, 4)), rng.normal(size=(2, 3, 8, 4))
    expected = cache.copy()
    for row, first in enumerate(np.broadcast_to(column, 2)):
        expected[row, :, first : first + 8] = new[row]
    np.testing.assert_allclose(write(jnp.array(cache), jnp.array(new), jnp.asarray(column)), expected, rtol=1e-6)
    columns = np.broadcast_to(columns_from(jnp.asarray(column), 8), (2, 8))
    np.testing.assert_array_equal(columns, np.broadcast_to(column, 2)[:, None] + np.arange(8))


def test_attention_is_a_softmax_over_what_is_seen():
    rng = np.random.default_rng(0)
    B, H, T, D, S = 2, 3, 5, 4, 3 * READ
    q, keys, values = (
        rng.normal(size=shape).astype(np.float32) * 3 for shape in ((B, H, T, D), (B, H, S, D), (B, H, S, D))
    )
    columns = np.stack([np.arange(T), np.arange(T) + READ - 2 + 131])
    y = attend(*map(jnp.asarray, (q, keys, values, columns)))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = slice(0, columns[b, t] + 1)
                scores = keys[b, h, seen].astype(np.float64) @ q[b, h, t] / np.sqrt(D)
                weights = np.exp(scores - scores.max())
                np.testing.assert_allclose(y[b, h, t], weights / weights.sum() @ values[b, h, seen], atol=1e-5)
