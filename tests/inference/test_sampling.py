import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from jaxgpt.inference.sampling import first_argmax, make_sampling_params, mask_top, sample_token


def probabilities(logits, temperature, top_k, top_p):
    """By sorting, in float64."""
    x = np.asarray(logits, np.float64) / temperature
    order = np.argsort(-x, kind="stable")
    p = np.exp(x - x.max())
    if top_k:
        p[order[top_k:]] = 0
    p /= p.sum()
    if top_p < 1:
        kept = int(np.searchsorted(np.cumsum(p[order]), top_p)) + 1
        p[order[kept:]] = 0
    return p / p.sum()


CHOICES = [
    {},
    {"temperature": 0.5},
    {"temperature": 2.0},
    {"top_k": 5},
    {"top_p": 0.7},
    {"temperature": 1.5, "top_k": 10, "top_p": 0.8},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_draws_have_the_right_probabilities(choice):
    rows, logits = 20_000, np.random.default_rng(0).normal(size=40).astype(np.float32) * 2
    draws = jax.jit(sample_token)(
        jnp.tile(logits, (rows, 1)),
        make_sampling_params(**choice),
        jax.random.split(jax.random.key(1), rows),
        jnp.full(rows, 5),
    )
    expected = probabilities(logits, **({"temperature": 1.0, "top_k": 0, "top_p": 1.0} | choice)) * rows
    counts = np.bincount(draws, minlength=40)
    assert not counts[expected == 0].any()
    many = expected > 5
    observed = [*counts[many], counts[~many].sum()]
    wanted = [*expected[many], expected[~many].sum()]
    if wanted[-1] == 0:
        observed, wanted = observed[:-1], wanted[:-1]
    assert len(wanted) >= 5
    assert scipy.stats.chisquare(observed, wanted).pvalue > 1e-3


def test_texts_with_settings_of_their_own_are_drawn_as_if_they_were_alone():
    logits = np.random.default_rng(0).normal(size=(len(CHOICES) + 1, 40)).astype(np.float32) * 2
    alone = [make_sampling_params(**choice) for choice in [*CHOICES, {"temperature": 0}]]
    together = jax.tree.map(lambda *values: np.array(values)[:, None], *alone)
    draw = jax.jit(sample_token)
    for number in range(20):
        keys, num_new = jax.random.split(jax.random.key(number), len(logits)), np.arange(len(logits)) + number
        expected = [
            draw(logits[row : row + 1], params, keys[row : row + 1], num_new[row : row + 1]).item()
            for row, params in enumerate(alone)
        ]
        assert draw(logits, together, keys, num_new).tolist() == expected
        assert expected[-1] == logits[-1].argmax()


def test_all_tokens_are_allowed_by_default_and_the_draw_is_that_of_categorical():
    logits = np.random.default_rng(1).normal(size=(3, 4000)).astype(np.float32)
    for number in range(20):
        keys = jax.random.split(jax.random.key(number), 3)
        folded = jax.vmap(jax.random.fold_in)(keys, np.arange(3))
        expected = jax.vmap(jax.random.categorical)(folded, logits)
        assert sample_token(logits, make_sampling_params(), keys, np.arange(3)).tolist() == expected.tolist()


def test_the_first_of_equal_entries_is_the_likeliest():
    x = np.random.default_rng(0).integers(0, 4, size=(200, 9)).astype(np.float32)
    x[:3] = -np.inf
    assert first_argmax(jnp.array(x)).tolist() == x.argmax(-1).tolist() != jnp.argmin(x, -1).tolist()


def test_a_temperature_near_0_is_greedy_and_does_not_overflow():
    logits = jnp.array([[1e4, 1e4 - 1, -1e4, 3.0]] * 2)
    for temperature in (0.0, 1e-45, 1e-6, 1e-3):
        assert sample_token(
            logits, make_sampling_params(temperature), jax.random.split(jax.random.key(0), 2), jnp.zeros(2, int)
        ).tolist() == [0, 0]


def test_the_heaviest_are_those_that_sorting_finds():
    rng, jitted = np.random.default_rng(0), jax.jit(mask_top)
    for _ in range(100):
        x = rng.choice([-np.inf, -3.5, -0.0, 1e-30, 2.0, 1e30], size=12) if rng.random() < 0.5 else rng.normal(size=12)
        x = x.astype(np.float32) + np.float32(0)  # no -0, which equals 0
        weights = rng.random(12).astype(np.float32)
        target = np.float32(rng.choice([0.1, 1.0, weights.sum() * rng.random(), 100.0]))
        order = np.argsort(-x, kind="stable")
        enough = np.flatnonzero(np.cumsum(weights[order], dtype=np.float64) >= target)
        lowest = x[order[enough[0]]] if len(enough) else -np.inf
        kept = jitted(jnp.array([x]), jnp.array([weights]), target)
        assert np.array_equal(kept[0], x >= lowest), (x, weights, target)
