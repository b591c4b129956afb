import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.decode import READ, attend, forward, prepare
from jaxgpt.model import GPT2
from jaxgpt.shape import GPT2Config

LONG = GPT2Config(vocab_size=61, block_size=300, n_layer=2, n_head=3, n_embd=24)  # of several reads, the last not full


def make(config):
    """A model whose parameters are large enough that attention has preferences."""
    model = jax.jit(lambda key: GPT2(config, key))(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), model)


@pytest.fixture(scope="module")
def model():
    return make(LONG)


step = jax.jit(forward)


@pytest.mark.parametrize("pieces", [[300], [1] * 40, [7, 1, 120, 1, 1, 90, 5]], ids=["whole", "one by one", "mixed"])
def test_the_logits_are_those_without_a_cache(model, pieces):
    idx = np.random.default_rng(0).integers(0, 61, (2, 300), dtype=np.int32)
    expected = np.asarray(jax.jit(lambda m, x: m(x))(model, idx))
    decoder, cache = jax.jit(prepare, static_argnums=1)(model, 2)
    column, start = 0, np.zeros(2, np.int32)
    for T in pieces:
        logits, cache = step(decoder, cache, idx[:, column : column + T], np.int32(column), start)
        column += T
        np.testing.assert_allclose(logits, expected[:, column - 1], atol=1e-5)


def test_texts_of_other_lengths_do_not_change_a_text(model):
    """Right-aligned, at any column, with rubbish in the columns before it, in the tokens and in the cache."""
    rng, lengths, end = np.random.default_rng(0), [3, 130, 257], 260
    idx = rng.integers(0, 61, (3, end), dtype=np.int32)
    start = np.array([end - length for length in lengths], np.int32)
    decoder, cache = prepare(model, 3)
    cache = jax.tree.map(lambda leaf: leaf + 100.0, cache)
    for column, T in ((0, 128), (128, 131), (259, 1)):
        logits, cache = step(decoder, cache, idx[:, column : column + T], np.int32(column), start)
    for row, length in enumerate(lengths):
        alone = model(idx[row : row + 1, end - length :])[0, -1]
        np.testing.assert_allclose(logits[row], alone, atol=1e-5)


def test_what_was_written_beyond_the_text_is_not_seen(model):
    idx = np.random.default_rng(0).integers(0, 61, (1, 64), dtype=np.int32)
    decoder, cache = prepare(model, 1)
    start = np.zeros(1, np.int32)
    _, cache = step(decoder, cache, idx, np.int32(0), start)  # 64 columns, of which the text shall have 10
    logits, _ = step(decoder, cache, idx[:, 9:10], np.int32(9), start)
    np.testing.assert_allclose(logits[0], model(idx[:, :10])[0, -1], atol=1e-5)


def test_attention_is_a_softmax_over_what_is_seen():
    rng = np.random.default_rng(0)
    B, H, T, D, S = 2, 3, 5, 4, 3 * READ
    q, keys, values = (
        rng.normal(size=shape).astype(np.float32) * 3 for shape in ((B, H, T, D), (B, H, S, D), (B, H, S, D))
    )
    start, columns = np.array([0, 131]), np.arange(T) + READ - 2 + 131
    y = attend(*map(jnp.asarray, (q, keys, values, columns, start)))
    for b in range(B):
        for h in range(H):
            for t in range(T):
                seen = slice(start[b], columns[t] + 1)
                scores = keys[b, h, seen].astype(np.float64) @ q[b, h, t] / np.sqrt(D)
                weights = np.exp(scores - scores.max())
                np.testing.assert_allclose(y[b, h, t], weights / weights.sum() @ values[b, h, seen], atol=1e-5)


def test_columns_before_a_text_stay_finite():
    q = jnp.ones((1, 1, 2, 4))
    keys = values = jnp.full((1, 1, READ, 4), 1e3)
    assert np.isfinite(attend(q, keys, values, jnp.arange(2), jnp.array([1]))).all()


def test_bfloat16_is_close_and_caches_in_bfloat16(model):
    import dataclasses

    from jaxgpt.variants import with_config

    low = with_config(model, dataclasses.replace(LONG, dtype="bfloat16"))
    idx = np.random.default_rng(0).integers(0, 61, (1, 40), dtype=np.int32)
    decoder, cache = prepare(low, 1)
    logits, cache = step(decoder, cache, idx, np.int32(0), np.zeros(1, np.int32))
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
    exact = low(idx)[0, -1]
    assert logits.dtype == jnp.float32
    assert np.abs(logits[0] - exact).max() < 0.05 * np.abs(exact).max()
