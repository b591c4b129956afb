"""Each metric on random predictions, against scikit-learn and SciPy called here, or a loop over the questions."""

import collections
import re
import string
import warnings

import numpy as np
import pytest

from jaxgpt.data.benchmarks import tasks
from jaxgpt.data.benchmarks.predictions import Answer
from jaxgpt.inference import task_metrics
from jaxgpt.inference.task_metrics import compute

metrics = pytest.importorskip("sklearn.metrics", reason="pip install -r requirements-metrics.txt")
stats = pytest.importorskip("scipy.stats")
SETS = 200


def labelled(names, seed):
    """Up to 40 true and predicted labels, of which some may not occur."""
    generator = np.random.default_rng(seed)
    n, p = generator.integers(1, 40), generator.dirichlet(np.ones(len(names)))
    return ([names[k] for k in generator.choice(len(names), n, p=p)] for _ in range(2))


def test_every_metric_that_a_table_may_name_is_known():
    named = {*tasks.LABEL_METRICS, *tasks.RANGE_METRICS, *sum(tasks.OTHER_METRICS.values(), ())}
    assert named == task_metrics.METRICS.keys()


def test_metrics_of_labels_equal_scikit_learns():
    for seed in range(SETS):
        names = [("0", "1"), ("not_entailment", "entailment"), ("x", "yy", "z")][seed % 3]
        truth, predicted = labelled(names, seed)
        answers = [Answer((k,), p, t) for k, (t, p) in enumerate(zip(truth, predicted, strict=True))]
        positive = names[-1]
        # As numbers, and F1 of each label alone.
        y, x = ([names.index(name) for name in column] for column in (truth, predicted))
        occurring = sorted({*x, *y})
        f1 = metrics.f1_score(y, x, average=None, labels=range(len(names)), zero_division=0)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            matthews = metrics.matthews_corrcoef(y, x)
        assert compute("accuracy", answers, positive) == pytest.approx(np.mean(np.equal(x, y)))
        assert compute("matthews", answers, positive) == pytest.approx(matthews)
        assert compute("f1_macro", answers, positive) == pytest.approx(f1[occurring].mean())
        if len(names) == 2:
            assert compute("f1", answers, positive) == pytest.approx(f1[-1])


def test_correlations_equal_scipys():
    for seed in range(SETS):
        generator = np.random.default_rng(seed)
        truth = generator.integers(0, 26, generator.integers(3, 40)) / 5  # with equal ones, as in STS-B
        predicted = (truth + generator.normal(0, seed % 7, len(truth))).round(seed % 3)
        answers = [Answer((k,), float(p), float(t)) for k, (t, p) in enumerate(zip(truth, predicted, strict=True))]
        if np.ptp(truth) == 0 or np.ptp(predicted) == 0:
            assert compute("pearson", answers, "") == compute("spearman", answers, "") == 0
            continue
        assert compute("pearson", answers, "") == pytest.approx(stats.pearsonr(truth, predicted)[0])
        assert compute("spearman", answers, "") == pytest.approx(stats.spearmanr(truth, predicted)[0])
    assert compute("pearson", [Answer((0,), 1.0, 2.0), Answer((1,), 1.0, 3.0)], "") == 0  # alike: not defined


def test_a_question_is_right_where_all_of_its_answers_are():
    for seed in range(SETS):
        generator = np.random.default_rng(seed)
        answers, right = [], []
        for passage in range(3):
            for question in range(generator.integers(1, 4)):
                pairs = generator.integers(0, 2, (generator.integers(1, 4), 2)).astype(str).tolist()
                answers += [Answer((passage, question, k), p, t) for k, (t, p) in enumerate(pairs)]
                right.append(all(t == p for t, p in pairs))
        assert compute("question_exact", answers, "1") == pytest.approx(np.mean(right))


def squad(text):
    words = re.sub(f"[{re.escape(string.punctuation)}]", "", text.lower()).split()
    return " ".join(word for word in words if word not in ("a", "an", "the"))


def test_a_text_is_compared_with_the_nearest_that_is_right():
    words = ["The", "a", "Ann", "Ann's", "Bob", "U.S.", "an", "York-New"]
    for seed in range(SETS):
        generator = np.random.default_rng(seed)
        draw = lambda: " ".join([*generator.choice(words, generator.integers(1, 4)), "x"])  # noqa: B023, E731
        answers = [Answer((k,), draw(), tuple(draw() for _ in range(generator.integers(1, 4)))) for k in range(5)]
        exact, f1 = [], []
        for answer in answers:
            best = 0.0
            for truth in answer.truth:
                p, t = squad(answer.predicted).split(), squad(truth).split()
                common = sum((collections.Counter(p) & collections.Counter(t)).values())
                if common:
                    precision, recall = common / len(p), common / len(t)
                    best = max(best, 2 * precision * recall / (precision + recall))
            f1.append(best)
            exact.append(any(squad(answer.predicted) == squad(truth) for truth in answer.truth))
        assert compute("answer_exact", answers, "") == pytest.approx(np.mean(exact))
        assert compute("answer_f1", answers, "") == pytest.approx(np.mean(f1))
