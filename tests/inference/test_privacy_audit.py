"""Lower bounds against the exact binomial interval, and on mechanisms whose epsilon is known."""

import math

import numpy as np
import pytest
from scipy import stats

from jaxgpt.inference.privacy_audit import audit, epsilon_lower_bound, p_value


@pytest.mark.parametrize(
    "correct, guesses", [(100, 100), (90, 100), (700, 1000), (60, 100), (5, 5), (51, 100), (0, 10)]
)
def test_without_delta_it_is_clopper_pearsons(correct, guesses):
    """The lower end of the one-sided 95 % interval of the share of correct guesses, as odds."""
    share = stats.beta.ppf(0.05, correct, guesses - correct + 1) if correct else 0
    expected = max(0, math.log(share / (1 - share))) if share > 0 else 0
    assert epsilon_lower_bound(correct, guesses, guesses, 0.0) == pytest.approx(expected, abs=2e-3)


def test_with_delta_it_is_the_papers_sum():
    m, r, v, delta = 200, 120, 80, 1e-4
    for epsilon in (0.1, 0.5, 1.0):
        binomial = stats.binom(r, math.exp(epsilon) / (1 + math.exp(epsilon)))
        alpha = max(binomial.pmf(range(v - i, v)).sum() / i for i in range(1, v + 1))
        assert p_value(v, r, m, epsilon, delta) == pytest.approx(binomial.sf(v - 1) + 2 * m * delta * alpha, rel=1e-9)
    bounds = [epsilon_lower_bound(v, r, m, delta) for delta in (0, 1e-6, 1e-4, 1e-3)]
    assert bounds == sorted(bounds, reverse=True) and bounds[0] > bounds[-1]


@pytest.mark.parametrize("epsilon", [0.5, 1.0, 3.0])
def test_on_randomized_response_it_holds_and_is_near(epsilon):
    """Each canary's bit is reported truthfully with probability e^epsilon / (1 + e^epsilon): nothing gives more."""
    rng, bounds = np.random.default_rng(0), []
    for _ in range(300):
        included = rng.random(400) < 0.5
        told = included ^ (rng.random(400) >= 1 / (1 + math.exp(-epsilon)))
        bounds.append(audit(told + rng.normal(0, 1e-3, 400), included, 0.0, share=1.0).epsilon)
    assert np.mean(np.array(bounds) <= epsilon) >= 0.95 - 2 * math.sqrt(0.05 * 0.95 / 300)
    assert np.median(bounds) > 0.75 * epsilon - 0.1


def test_the_gaussian_mechanism_is_bounded_by_its_epsilon():
    """A sum of 300 canaries that are orthogonal, with noise of epsilon 4: a lower bound below that, and above 0.5."""
    rng, bounds = np.random.default_rng(1), []
    sigma = 1.05  # epsilon 4 at delta 1e-5, without sampling: see test_accounting for the formula
    for _ in range(50):
        included = rng.random(300) < 0.5
        bounds.append(audit(included + rng.normal(0, sigma, 300), included, 1e-5).epsilon)
    assert max(bounds) <= 4 and np.median(bounds) > 0.5


def test_who_knows_nothing_proves_nothing():
    rng = np.random.default_rng(2)
    bounds = [audit(rng.normal(size=200), rng.random(200) < 0.5, 1e-6).epsilon for _ in range(200)]
    assert np.mean(np.array(bounds) == 0) >= 0.9
    known = audit(np.arange(200), np.arange(200) >= 100, 1e-6)
    assert (known.guesses, known.correct) == (100, 100) and known.epsilon == known.largest > 3
