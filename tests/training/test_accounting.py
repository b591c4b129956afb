"""Epsilon against closed forms, and against Opacus' accountant: its numbers, and itself where it is installed."""

import itertools
import math

import pytest

pytest.importorskip("dp_accounting")
from scipy import stats
from scipy.optimize import brentq

from jaxgpt.training.accounting import EpsilonByStep, epsilon_after, noise_multiplier_for

# noise multiplier, sampling rate, steps, delta
SETTINGS = [
    (0.62, 0.01, 1000, 1e-6),
    (0.75, 0.05, 100, 1e-6),
    (1.0, 0.01, 5000, 1e-5),
    (1.1, 0.004, 15000, 1e-5),
    (2.0, 0.1, 300, 1e-6),
    (0.8, 0.02, 500, 1e-5),
    (4.0, 0.2, 1000, 1e-7),
    (0.5, 0.001, 2000, 1e-6),
    (1.5, 0.25, 50, 1e-5),
    (5.0, 0.02, 2000, 1e-6),
]


@pytest.mark.parametrize("multiplier, steps, delta", [(3.0, 1, 1e-5), (4.0, 30, 1e-6), (20.0, 500, 1e-4)])
def test_without_sampling_it_is_the_gaussian_mechanisms(multiplier, steps, delta):
    """n steps are one of a deviation smaller by the root of n; its delta is known (Balle and Wang, 2018, theorem 8)."""
    mu = math.sqrt(steps) / multiplier

    def delta_of(epsilon):
        return stats.norm.cdf(mu / 2 - epsilon / mu) - math.exp(epsilon) * stats.norm.cdf(-mu / 2 - epsilon / mu)

    exact = brentq(lambda epsilon: delta_of(epsilon) - delta, 0, 50)
    assert exact <= epsilon_after(multiplier, 1.0, steps, delta) <= 1.001 * exact


@pytest.mark.filterwarnings("ignore::UserWarning")  # Opacus' own, of where it begins to search
@pytest.mark.parametrize("setting", SETTINGS, ids=str)
def test_it_is_that_of_opacus(setting):
    pytest.importorskip("opacus")
    from opacus.accountants import PRVAccountant

    multiplier, rate, steps, delta = setting
    accountant = PRVAccountant()
    accountant.history = [(multiplier, rate, steps)]
    assert epsilon_after(multiplier, rate, steps, delta) == pytest.approx(
        accountant.get_epsilon(delta=delta, eps_error=1e-3), rel=0.01
    )


def test_it_is_that_of_opacus_as_stored():
    """What Opacus 1.6.0's PRVAccountant with eps_error=1e-3 says, for where it is not installed."""
    stored = [7.87197, 7.82435, 4.20308, 2.29651, 4.71399, 4.66935, 9.30486, 4.65654, 6.66761, 0.75594]
    for setting, expected in zip(SETTINGS, stored, strict=True):
        assert epsilon_after(*setting) == pytest.approx(expected, rel=0.01)


@pytest.mark.parametrize(
    "epsilon, delta, rate, steps", [(8, 1e-6, 0.02, 400), (1, 1e-5, 0.1, 50), (3, 1e-7, 0.001, 20_000), (8, 1e-5, 1, 9)]
)
def test_the_noise_is_the_least_that_is_enough(epsilon, delta, rate, steps):
    multiplier = noise_multiplier_for(epsilon, delta, rate, steps)
    assert epsilon_after(multiplier, rate, steps, delta) <= epsilon
    assert epsilon_after(multiplier - 2e-4, rate, steps, delta) > epsilon
    assert multiplier == round(multiplier, 4)


def test_epsilon_grows_with_each_step_and_ends_at_the_promise():
    multiplier = noise_multiplier_for(2, 1e-5, 0.05, 200)
    after = EpsilonByStep(multiplier, 0.05, 200, 1e-5)
    numbers = [after(done) for done in range(201)]
    assert numbers[0] == 0 and 1.99 < numbers[-1] <= 2
    assert all(a <= b for a, b in itertools.pairwise(numbers)) and len(set(numbers)) == 21
    for done in (1, 73, 100, 199):
        assert numbers[done] >= epsilon_after(multiplier, 0.05, done, 1e-5)
    assert numbers[100] == epsilon_after(multiplier, 0.05, 100, 1e-5)  # exact at a mark


def test_what_no_noise_can_promise_is_an_error():
    with pytest.raises(ValueError, match="no noise multiplier up to 1,000,000 is enough"):
        noise_multiplier_for(1e-9, 1e-15, 1.0, 10**6)
