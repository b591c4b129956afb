"""The recurrent block; its numbers beside PyTorch's are in parity/test_griffin."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models.configs import GriffinConfig
from jaxgpt.models.layers import Rngs
from jaxgpt.models.recurrence import RGLRU, Convolution, Recurrence, bounded_sqrt, decay_and_input, slices

CONFIG = GriffinConfig(n_layer=1, n_head=2, n_embd=12, lru_width=8)


def test_the_roots_slope_has_a_bound():
    x = jnp.array([0.0, 1e-12, 2.5e-7, 1e-4, 4.0])
    np.testing.assert_allclose(bounded_sqrt(x), np.sqrt(x))
    np.testing.assert_allclose(jax.vmap(jax.grad(bounded_sqrt))(x), [1000, 1000, 1000, 50, 0.25], rtol=1e-5)


def test_at_first_a_state_keeps_most_of_itself():
    """r ** (8 * gate), r between 0.9 and 0.999; and nothing of another document, whose first token comes in whole."""
    parameter = RGLRU(GriffinConfig(n_head=400, n_embd=4000), Rngs(0)).recurrent_param[...]
    u, past = jnp.ones((1, 2, 4000)), jnp.array([[0, 7]])
    a, b = decay_and_input(u, jnp.full_like(u, 100.0), jnp.zeros_like(u), parameter, past)
    r = np.sort(np.asarray(a[0, 1]) ** (1 / 4))
    np.testing.assert_allclose(r[[0, -1]], [0.9, 0.999], atol=1e-3)
    np.testing.assert_allclose(r[2000] ** 2, (0.9**2 + 0.999**2) / 2, atol=0.01)  # even over a ring
    np.testing.assert_allclose(b[0, 1], np.sqrt(1 - np.asarray(a[0, 1], np.float64) ** 2), atol=1e-4)
    assert not a[0, 0].any() and (b[0, 0] == 1).all()


def test_the_convolution_is_a_sum_over_the_last_tokens_of_a_document():
    conv = Convolution(CONFIG, Rngs(0))
    rng, past = np.random.default_rng(0), np.array([[0, 1, 2, 0, 1, 2, 3, 4]])
    u, weight = rng.normal(size=(1, 3 + 8, 8)).astype(np.float32), np.asarray(conv.weight[...])[:, 0]
    found = conv(u, past)
    for t in range(8):
        taps = [weight[:, 3 - back] * u[0, 3 + t - back] for back in range(4) if back <= past[0, t]]
        np.testing.assert_allclose(found[0, t], sum(taps), atol=1e-6)


def test_a_text_in_pieces_is_the_text():
    """Two texts, the second a token behind; padding, and what was in the state before a text, are not in it."""
    block, x = Recurrence(CONFIG, Rngs(0)), np.random.default_rng(1).normal(size=(2, 9, 12)).astype(np.float32)
    expected = jax.jit(type(block).__call__)(block, x.reshape(18, 12), np.arange(9)[None]).reshape(2, 9, 12)
    state, column = (jnp.full((2, 8), 50.0), jnp.full((2, 3, 8), 50.0)), np.array([0, 0])
    run, T = jax.jit(type(block).decode), 4
    for _ in range(2):
        count = np.array([T, T - 1 if column[1] == 0 else T])
        part = np.stack([x[row, column[row] : column[row] + T] for row in range(2)])
        part[1, count[1] :] = 9.0
        past = column[:, None] + np.arange(T)
        found, state = run(block, part.reshape(-1, 12), state, past, count)
        for row in range(2):
            wanted = expected[row, column[row] : column[row] + count[row]]
            np.testing.assert_allclose(found.reshape(2, T, 12)[row, : count[row]], wanted, atol=1e-6)
        column = column + count
    assert state[0].shape == (2, 8) and state[1].shape == (2, 3, 8)
    np.testing.assert_array_equal(slices(jnp.arange(12).reshape(2, 6), np.array([1, 4]), 2), [[1, 2], [10, 11]])
