"""The metrics of a classifier: by hand, and beside scikit-learn's where that is installed."""

import math

import numpy as np
import pytest

from jaxgpt.inference.metrics import accuracy, accuracy_stderr, confusion, f1, f1_by_label, mcc


def test_two_labels_by_hand():
    #         TN FP FN TP: 5, 1, 2, 4
    truth = [0] * 6 + [1] * 6
    predicted = [0] * 5 + [1] + [0] * 2 + [1] * 4
    table = confusion(np.array(truth), np.array(predicted), 2)
    assert table.tolist() == [[5, 1], [2, 4]]
    assert accuracy(table) == 9 / 12
    assert accuracy_stderr(table) == pytest.approx(np.std([1] * 9 + [0] * 3, ddof=1) / math.sqrt(12), rel=1e-12)
    assert f1(table) == 2 * 4 / (2 * 4 + 1 + 2)
    assert f1_by_label(table).tolist() == [2 * 5 / (2 * 5 + 1 + 2), 8 / 11]
    assert mcc(table) == pytest.approx((4 * 5 - 1 * 2) / math.sqrt((4 + 1) * (4 + 2) * (5 + 1) * (5 + 2)), rel=1e-12)


def test_three_labels_by_hand():
    table = np.array([[2, 1, 0], [0, 3, 0], [1, 0, 1]])
    assert accuracy(table) == 6 / 8
    np.testing.assert_allclose(f1_by_label(table), [4 / 6, 6 / 7, 2 / 3], rtol=1e-12)
    assert f1(table) == pytest.approx((4 / 6 + 6 / 7 + 2 / 3) / 3)
    # n 8, right 6; predicted 3, 4, 1; truth 3, 3, 2
    assert mcc(table) == pytest.approx((6 * 8 - (9 + 12 + 2)) / math.sqrt((64 - 26) * (64 - 22)), rel=1e-12)


def test_what_is_not_defined_is_0():
    never_predicted = np.array([[3, 0], [2, 0]])
    assert f1(never_predicted) == 0 and mcc(never_predicted) == 0 and accuracy(never_predicted) == 0.6
    one_class_only = np.array([[4, 0], [0, 0]])
    assert f1(one_class_only) == 0 and mcc(one_class_only) == 0 and accuracy_stderr(one_class_only) == 0
    assert f1(np.diag([4, 2, 0])) == 1  # the third label does not occur
    assert accuracy_stderr(np.array([[1, 0], [0, 0]])) == 0


def test_large_counts_do_not_overflow():
    assert mcc(np.array([[10**9, 0], [0, 10**9]])) == 1
    assert mcc(np.array([[0, 10**9], [10**9, 0]])) == -1


@pytest.mark.parametrize("n_labels", [2, 3, 7])
def test_they_are_scikit_learns(n_labels):
    sklearn = pytest.importorskip("sklearn.metrics", reason="scikit-learn comes with lm-eval")
    generator = np.random.default_rng(n_labels)
    for n in (1, 2, 5, 40, 1000):
        for shown in (n_labels, n_labels - 1, 1):  # labels that occur
            truth, guess = generator.integers(0, shown, (2, n))
            predicted = np.where(generator.random(n) < 0.6, truth, guess)
            table = confusion(truth, predicted, n_labels)
            assert np.array_equal(table, sklearn.confusion_matrix(truth, predicted, labels=range(n_labels)))
            of = {"average": "binary", "pos_label": 1} if n_labels == 2 else {"average": "macro"}
            pairs = [
                (accuracy(table), sklearn.accuracy_score(truth, predicted)),
                (f1(table), sklearn.f1_score(truth, predicted, zero_division=0, **of)),
            ]
            # scikit-learn's own answer for one class alone comes with a warning
            if len({*truth.tolist(), *predicted.tolist()}) > 1:
                pairs.append((mcc(table), sklearn.matthews_corrcoef(truth, predicted)))
            for ours, theirs in pairs:
                assert ours == pytest.approx(theirs, abs=1e-12)
