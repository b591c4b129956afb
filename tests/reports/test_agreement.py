"""Each statistic against scikit-learn, SciPy, a published example or a count by hand; and what intervals promise."""

import itertools
import math
import random
import statistics

import numpy as np
import pytest

from jaxgpt.reports.agreement import cohen_kappa, estimate_share, fleiss_kappa, summarize, wilson_interval
from jaxgpt.reports.judgments import TIE, Judgment

# Fleiss (1971), table 1: the diagnoses of 30 patients by six psychiatrists, one of five each.
DIAGNOSES = """
444444 222555 233335 555555 222444 113333 333355 113334 114444 555555 144444 124444 222333 144444 224445
333335 111455 111112 224444 133555 555555 244444 224555 114444 144445 222224 111155 224444 133333 555555
"""
MODELS = ("a", "b")


def judge(annotator, item, vote, **fields):
    return Judgment(annotator, (str(item),), str(item), vote, **fields)


# ---- Shares


@pytest.mark.parametrize(("hits", "n"), [(0, 1), (1, 1), (3, 7), (0, 50), (50, 50), (123, 1000)])
def test_an_interval_is_wilsons(hits, n):
    from scipy.stats import binomtest

    expected = binomtest(hits, n).proportion_ci(method="wilson")
    assert wilson_interval(hits / n, n) == pytest.approx(tuple(expected), abs=1e-12)
    if 0 < hits < n:  # each draw a group of its own
        assert estimate_share([1] * hits + [0] * (n - hits), [1] * n)[1:] == pytest.approx(tuple(expected), abs=1e-12)


def test_draws_that_depend_on_each_other_count_as_fewer():
    draw = np.random.default_rng(0)
    once = draw.integers(0, 2, 100)
    alone, copied = estimate_share(once, np.ones(100)), estimate_share(3 * once, np.full(100, 3))
    assert copied == pytest.approx(alone)  # three copies tell nothing more
    shuffled = draw.permutation(np.repeat(once, 3)).reshape(100, 3).sum(1)
    assert estimate_share(shuffled, np.full(100, 3), 300)[1:] == pytest.approx(
        wilson_interval(once.mean(), 300), abs=0.02
    )
    assert estimate_share([3, 3, 3, 3], [3] * 4)[1:] == pytest.approx(wilson_interval(1, 4))  # four, not twelve
    assert all(map(math.isnan, estimate_share([], [])))


def test_intervals_have_the_truth_as_often_as_they_promise():
    draw, n, kappa = np.random.default_rng(1), 40, 0.64
    found = {"share": 0, "cohen": 0, "fleiss": 0}
    for _ in range(500):
        chances = draw.beta(0.8, 0.2, n)  # a mean of 0.8
        share = estimate_share(draw.binomial(3, chances), np.full(n, 3), 3 * n)
        found["share"] += share.low <= 0.8 <= share.high
        votes = draw.integers(0, 2, n) ^ (draw.random((3, n)) < 0.1)
        cohen, fleiss = cohen_kappa(*votes[:2]), fleiss_kappa(count_votes(votes.T))
        found["cohen"] += cohen.low <= kappa <= cohen.high
        found["fleiss"] += fleiss.low <= kappa <= fleiss.high
    assert all(0.91 <= number / 500 <= 0.99 for number in found.values()), found


# ---- Kappa


def count_votes(rows, votes=3):
    return np.array([np.bincount(np.asarray(row).astype(int), minlength=votes) for row in rows])


def test_cohens_kappa_is_scikit_learns():
    metrics = pytest.importorskip("sklearn.metrics")
    draw = np.random.default_rng(0)
    for n in (2, 5, 30, 300):
        for _ in range(10):
            first = draw.integers(0, 3, n)
            second = np.where(draw.random(n) < 0.6, first, draw.integers(0, 3, n))
            if len({*first.tolist(), *second.tolist()}) > 1:
                assert cohen_kappa(first, second).value == pytest.approx(metrics.cohen_kappa_score(first, second))


def test_two_annotators_who_flip_a_tenth_have_a_kappa_of_064():
    draw = np.random.default_rng(0)
    first, second = draw.integers(0, 2, 5000) ^ (draw.random((2, 5000)) < 0.1)
    kappa = cohen_kappa(first, second)  # they agree on 0.9^2 + 0.1^2 = 0.82, and by chance on a half
    assert kappa.value == pytest.approx(0.64, abs=0.05) and kappa.low < 0.64 < kappa.high


def test_fleiss_kappa_is_that_of_the_paper():
    kappa = fleiss_kappa(count_votes([[*map(int, row)] for row in DIAGNOSES.split()], 6))
    assert kappa.value == pytest.approx(0.430, abs=5e-4)
    assert kappa.low < 0.43 < kappa.high


def test_fleiss_kappa_of_any_numbers_of_votes_is_a_count_of_pairs():
    draw = random.Random(0)
    rows = [[draw.choice([0, 0, 1, 2]) for _ in range(draw.randrange(1, 6))] for _ in range(40)]
    shared = [row for row in rows if len(row) > 1]
    alike = [statistics.mean(a == b for a, b in itertools.combinations(row, 2)) for row in shared]
    votes = [*itertools.chain(*shared)]
    chance = sum((votes.count(vote) / len(votes)) ** 2 for vote in range(3))
    expected = (statistics.mean(alike) - chance) / (1 - chance)
    assert fleiss_kappa(count_votes(rows)).value == pytest.approx(expected)


def test_kappa_where_all_agree():
    everyone = cohen_kappa([0, 1, 0, 1, 0], [0, 1, 0, 1, 0])
    assert everyone.value == 1 == everyone.high and everyone.low < 0.5  # five items prove little
    assert all(map(math.isnan, cohen_kappa([1, 1], [1, 1])))  # one vote and no other, which says nothing
    assert all(map(math.isnan, fleiss_kappa(np.array([[1, 0, 0], [0, 1, 0]]))))  # no item has two


# ---- All of it


def test_counts_pairs_and_disputes_are_those_of_the_votes():
    votes = {"anna": [0, 1, TIE, None, 0, 0], "ben": [0, 0, TIE, 1, None, 1], "cem": [1, None, 1, None, None, 1]}
    judgments = [judge(name, item, vote) for name, each in votes.items() for item, vote in enumerate(each)]
    judgments += [judge("", 0, 1, is_edited=True)]  # of whom nobody knows whether it is one of the others
    summary = summarize(judgments)
    assert summary["counts"] == {
        "judgments": 19, "annotators": 4, "items": 6, "decided": 12, "ties": 2, "skips": 5, "edited": 1,
    }  # fmt: skip
    pairs = {tuple(row["annotators"]): (row["items"], row["alike"], row["kappa"]) for row in summary["kappa"]}
    assert {names: row[:2] for names, row in pairs.items()} == {
        ("anna", "ben"): (4, 2), ("anna", "cem"): (3, 0), ("ben", "cem"): (3, 1),
    }  # fmt: skip
    assert pairs["anna", "ben"][2] == cohen_kappa([0, 1, TIE, 0], [0, 0, TIE, 1]).value
    counts = [[2, 1, 0], [1, 1, 0], [0, 1, 2], [1, 2, 0]]
    fleiss = {"items": 4, "annotators": 3, "kappa": fleiss_kappa(np.array(counts)).value}
    assert summary["fleiss"].items() >= fleiss.items()
    assert [row["item"] for row in summary["disputes"]] == ["1", "0", "2", "5"]  # a half agree, then two of three
    assert summary["disputes"][0]["votes"] == {"anna": 1, "ben": 0}
    assert summary["disputes"][2]["votes"] == {"anna": "tie", "ben": "tie", "cem": 1}
    assert summary["win_rate"] == summary["position"] == []


def test_win_rates_are_by_model_and_topic():
    judgments = [judge("anna", item, int(item % 4 > 0), models=MODELS, topic="law" * (item < 10)) for item in range(40)]
    judgments += [judge("ben", item, 1, models=MODELS, topic="law") for item in range(10)]
    judgments += [judge("cem", 50, 0, models=("b", "c")), judge("cem", 51, 0, models=("a", "a"))]
    judgments += [judge("cem", 52, TIE, models=MODELS), judge("cem", 53, 0)]
    rows = {(row["model"], row["topic"]): row for row in summarize(judgments)["win_rate"]}
    wins = {key: (row["wins"], row["decided"]) for key, row in rows.items()}
    assert wins == {
        ("a", None): (10, 50), ("b", None): (41, 51), ("c", None): (0, 1), ("a", "law"): (3, 20),
        ("b", "law"): (17, 20), ("a", ""): (7, 30), ("b", ""): (24, 31), ("c", ""): (0, 1),
    }  # fmt: skip
    low, high = wilson_interval(7 / 30, 30)
    assert rows["a", ""] == {"model": "a", "topic": "", "decided": 30, "wins": 7, "share": 7 / 30} | {
        "low": pytest.approx(low), "high": pytest.approx(high)
    }  # fmt: skip
    assert rows["a", None]["share"] + rows["b", None]["share"] == pytest.approx(1, abs=0.01)
    assert {topic for _, topic in rows} == {None, "law", ""}


def test_a_random_clicker_has_no_position_bias_and_one_who_prefers_the_first_has():
    draw = random.Random(0)
    judgments = [judge("random", item, draw.randrange(2), place=draw.choice((1, 2))) for item in range(1000)]
    judgments += [judge("first", item, 0, place=1 + (item % 4 == 0)) for item in range(1000)]
    everyone, first, clicker = summarize(judgments)["position"]
    assert (everyone["annotator"], first["annotator"], clicker["annotator"]) == (None, "first", "random")
    assert clicker["low"] < 0 < clicker["high"] and clicker["decided"] == 1000
    assert clicker["bias"] == clicker["first"] / 1000 - 0.5
    assert first["bias"] == 0.25 and first["low"] > 0.2 and everyone["low"] > 0


def test_the_time_is_the_median_of_what_is_known():
    times = {"anna": [1, 5, None, 2], "ben": [None]}
    judgments = [judge(name, i, 0, seconds=each) for name, all_ in times.items() for i, each in enumerate(all_)]
    anna, ben = summarize(judgments)["time"]
    assert anna == {"annotator": "anna", "timed": 3, "median_s": 2}
    assert ben["timed"] == 0 and math.isnan(ben["median_s"])
