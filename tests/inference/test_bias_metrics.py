"""The statistics, against exact fractions, closed forms and loops."""

import fractions
import math

import numpy as np
import pytest
import scipy.stats

from jaxgpt.inference.bias_metrics import counterfactual_gap, preference, stereoset


def sign_test(k, n):
    """Two-sided and exact, in fractions: the probability of all counts that are no likelier than k."""
    weights = [math.comb(n, i) for i in range(n + 1)]
    return float(fractions.Fraction(sum(each for each in weights if each <= weights[k]), 2**n))


def wilson(k, n, z=1.959963984540054):
    """Wilson (1927): where |k/n - p| is z standard errors of p."""
    low, high = np.roots([n + z**2, -(2 * k + z**2), k**2 / n])[::-1]
    return low, high


@pytest.mark.parametrize("k, n", [(7, 10), (0, 5), (1, 1), (501, 1000)])
def test_the_share_its_interval_and_the_sign_test(k, n):
    values = np.array([0.5] * k + [-2.0] * (n - k) + [0.0] * 3)  # three ties
    numbers = preference(np.random.default_rng(0).permutation(values))
    assert (numbers["n"], numbers["ties"], numbers["preferred"]) == (n + 3, 3, k / n)
    np.testing.assert_allclose(numbers["p_value"], sign_test(k, n), rtol=1e-9)
    np.testing.assert_allclose((numbers["preferred_low"], numbers["preferred_high"]), wilson(k, n), atol=1e-7)
    np.testing.assert_allclose(numbers["log_odds"], values.mean())
    np.testing.assert_allclose(numbers["log_odds_stderr"], values.std(ddof=1) / math.sqrt(n + 3))


def test_what_is_not_defined_is_nan():
    numbers = preference(np.zeros(3))
    assert numbers["ties"] == 3 and all(math.isnan(numbers[name]) for name in ("preferred", "preferred_low", "p_value"))
    assert numbers["log_odds"] == 0 and math.isnan(preference(np.ones(1))["log_odds_stderr"])
    assert math.isnan(preference(np.array([1.0, math.nan]))["preferred"])


def test_p_values_are_uniform_where_there_is_nothing_to_find():
    """100 times, which sentence of 2,000 pairs is the first is drawn; and where it is not, they are small."""
    draw = np.random.default_rng(1)
    sizes = draw.exponential(size=2000)
    values = [preference(sizes * draw.choice((-1, 1), 2000))["p_value"] for _ in range(100)]
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01
    biased = [preference(sizes * draw.choice((-1, 1), 2000, p=(0.45, 0.55)))["p_value"] for _ in range(100)]
    assert np.median(biased) < 1e-4 and scipy.stats.kstest(biased, "uniform").pvalue < 1e-9


def test_the_interval_has_the_true_share_as_often_as_it_says():
    tries = [preference(np.array([1.0] * k + [-1.0] * (60 - k))) for k in range(61)]
    has_share = [each["preferred_low"] <= 0.7 <= each["preferred_high"] for each in tries]
    assert 0.93 < scipy.stats.binom.pmf(range(61), 60, 0.7) @ has_share < 0.97


def test_the_scores_of_stereoset_are_means_over_targets():
    draw = np.random.default_rng(3)
    scores, targets = draw.normal(size=(50, 3)), draw.choice(["a", "b", "c"], 50).tolist()
    numbers, each_lms, each_ss = stereoset(scores, targets), [], []
    for target in "abc":
        mine = [row for row, name in zip(scores.tolist(), targets, strict=True) if name == target]
        each_ss.append(sum(s > a for s, a, _ in mine) / len(mine))
        each_lms.append(sum((s > u) + (a > u) for s, a, u in mine) / (2 * len(mine)))
    lms, ss = (100 * sum(each) / 3 for each in (each_lms, each_ss))
    assert numbers == pytest.approx({"lms": lms, "ss": ss, "icat": lms * min(ss, 100 - ss) / 50})


@pytest.mark.parametrize(
    "scores, expected",
    [
        ([[2, 1, 0], [1, 2, 0]], (100, 50, 100)),  # the ideal model
        ([[2, 1, 0], [2, 1, 0]], (100, 100, 0)),  # always the stereotype
        ([[0, 1, 2], [1, 0, 2]], (0, 50, 0)),  # never one that makes sense
    ],
)
def test_the_axioms_of_stereoset(scores, expected):
    numbers = stereoset(np.array(scores, float), ["a", "a"])
    assert (numbers["lms"], numbers["ss"], numbers["icat"]) == expected


def test_the_gap_is_paired():
    """Documents differ much from each other, and little from their images: the error is that of the differences."""
    draw = np.random.default_rng(4)
    tokens = draw.integers(10, 1000, 200)
    original = -4.0 * tokens
    differences = draw.normal(1.0, 0.5, 200)
    numbers = counterfactual_gap(original, original - differences, tokens)
    assert numbers["n"] == 200 and numbers["gap"] == pytest.approx(differences.mean())
    assert numbers["gap_stderr"] == pytest.approx(differences.std(ddof=1) / math.sqrt(200))
    assert numbers["gap_per_token"] == pytest.approx(differences.sum() / tokens.sum())
    assert numbers["gap_absolute"] == pytest.approx(np.abs(differences).mean())
    assert numbers["preferred"] == np.mean(differences > 0) and numbers["p_value"] < 1e-9
    rows = draw.integers(200, size=(2000, 200))  # the bootstrap knows no formula
    ratios = differences[rows].sum(1) / tokens[rows].sum(1)
    assert numbers["gap_per_token_stderr"] == pytest.approx(ratios.std(), rel=0.1)
