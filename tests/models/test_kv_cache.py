import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.models.kv_cache import READ, attend, forward, guess, logits, prepare

LONG = GPT2Config(vocab_size=61, block_size=300, n_layer=2, n_head=3, n_embd=24)  # of several reads, the last not full


def make(config):
    """A model whose parameters are large enough that attention has preferences."""
    model = jax.jit(lambda key: GPT2(config, key))(jax.random.key(0))
    return jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), model)


@pytest.fixture(scope="module")
def model():
    return make(LONG)


@jax.jit
def step(decoder, cache, idx, column):
    """Logits of the token that follows the last of idx, and the cache."""
    x, _, cache = forward(decoder, cache, idx, column)
    return logits(decoder, x[:, -1]), cache


@pytest.mark.parametrize("pieces", [[300], [1] * 40, [7, 1, 120, 1, 1, 90, 5]], ids=["whole", "one by one", "mixed"])
def test_the_logits_are_those_without_a_cache(model, pieces):
    idx = np.random.default_rng(0).integers(0, 61, (2, 300), dtype=np.int32)
    expected = np.asarray(jax.jit(lambda m, x: m(x))(model, idx))
    decoder, cache = jax.jit(prepare, static_argnums=1)(model, 2)
    column = 0
    for T in pieces:
        found, cache = step(decoder, cache, idx[:, column : column + T], np.int32(column))
        column += T
        np.testing.assert_allclose(found, expected[:, column - 1], atol=1e-5)


def test_each_text_may_be_in_a_column_of_its_own(model):
    """Of other lengths, with rubbish in the tokens behind a text and in the cache."""
    rng, lengths = np.random.default_rng(0), np.array([3, 130, 257])
    idx = rng.integers(0, 61, (3, 300), dtype=np.int32)
    decoder, cache = prepare(model, 3)
    cache = jax.tree.map(lambda leaf: leaf + 100.0, cache)
    for column in (0, 128, 256):  # all of them together, also what stands behind a text
        _, cache = step(decoder, cache, idx[:, column : column + 128], np.int32(column))
    last = lengths[:, None] - 2 + np.arange(2)
    found, _ = step(decoder, cache, np.take_along_axis(idx, last, 1), np.int32(lengths - 2))
    for row, length in enumerate(lengths):
        alone = model(idx[row : row + 1, :length])[0, -1]
        np.testing.assert_allclose(found[row], alone, atol=1e-5)


def test_what_was_written_beyond_the_text_is_not_seen(model):
    idx = np.random.default_rng(0).integers(0, 61, (1, 64), dtype=np.int32)
    decoder, cache = prepare(model, 1)
    _, cache = step(decoder, cache, idx, np.int32(0))  # 64 columns, of which the text shall have 10
    found, _ = step(decoder, cache, idx[:, 9:10], np.int32(9))
    np.testing.assert_allclose(found, model(idx[:, :10])[:, -1], atol=1e-5)


@pytest.mark.parametrize("pieces", [[40], [12, 1, 26, 1]], ids=["whole", "mixed"])
def test_each_further_head_is_that_of_the_model(pieces):
    """At one token of each text, whichever, when it has read all of them."""
    model = make(dataclasses.replace(LONG, n_layer=4, predict_tokens=3))
    idx = np.random.default_rng(0).integers(0, 61, (2, 40), dtype=np.int32)
    expected = np.asarray(jax.jit(GPT2.all_heads)(model, idx))  # (3, B, T, V)
    decoder, cache = jax.jit(prepare, static_argnums=(1, 2))(model, 2, True)

    @jax.jit
    def read(decoder, cache, idx, column, at):
        x, trunk, cache = forward(decoder, cache, idx, column)
        y, cache = guess(decoder, cache, trunk, column, at)
        return logits(decoder, x), logits(decoder, y), cache

    column = 0
    for T in pieces:
        at = np.array([T - 1, T // 2])
        first, others, cache = read(decoder, cache, idx[:, column : column + T], np.array([column, column]), at)
        np.testing.assert_allclose(first, expected[0, :, column : column + T], atol=1e-5)
        for row in range(2):
            np.testing.assert_allclose(others[:, row], expected[1:, row, column + at[row]], atol=1e-5)
        column += T


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


def test_bfloat16_is_close_and_caches_in_bfloat16(model):
    from jaxgpt.models.convert import with_config

    low = with_config(model, dataclasses.replace(LONG, dtype="bfloat16"))
    idx = np.random.default_rng(0).integers(0, 61, (1, 40), dtype=np.int32)
    decoder, cache = prepare(low, 1)
    found, cache = step(decoder, cache, idx, np.int32(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
    exact = low(idx)[0, -1]
    assert found.dtype == jnp.float32
    assert np.abs(found[0] - exact).max() < 0.05 * np.abs(exact).max()
