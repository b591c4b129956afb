"""How good a classifier is, from its confusion matrix: plain functions, each equal to scikit-learn's of that name.

What is not defined, such as the precision of a label that was never predicted, is 0, as there.
"""

import math

import numpy as np


def confusion(truth: np.ndarray, predicted: np.ndarray, n_labels: int) -> np.ndarray:
    """How often which label was taken for which.

    Args:
      truth, predicted: integers (n,), from 0 to n_labels - 1.

    Returns:
      int64 (n_labels, n_labels): rows are the truth, columns the prediction.
    """
    counts = np.bincount(np.asarray(truth) * n_labels + np.asarray(predicted), minlength=n_labels**2)
    return counts.reshape(n_labels, n_labels)


def accuracy(confusion: np.ndarray) -> float:
    """The share of right predictions."""
    return float(np.trace(confusion) / confusion.sum())


def accuracy_stderr(confusion: np.ndarray) -> float:
    """Standard error of the accuracy: the deviation of n draws of right or wrong, over the root of n."""
    p, n = accuracy(confusion), int(confusion.sum())
    return math.sqrt(p * (1 - p) / max(n - 1, 1))


def f1_by_label(confusion: np.ndarray) -> np.ndarray:
    """F1 of each label, float64 (n_labels,): 2 TP / (2 TP + FP + FN), the harmonic mean of precision and recall."""
    right, either = np.diag(confusion), confusion.sum(0) + confusion.sum(1)
    return 2 * right / np.maximum(either, 1)


def f1(confusion: np.ndarray) -> float:
    """The second label's F1 where there are two, as in GLUE; else the mean over the labels that occur (macro)."""
    scores = f1_by_label(confusion)
    if len(confusion) == 2:
        return float(scores[1])
    return float(scores[confusion.sum(0) + confusion.sum(1) > 0].mean())


def mcc(confusion: np.ndarray) -> float:
    """Matthews correlation coefficient of any number of labels, from -1 to 1; 0 is no better than guessing.

    R_K of Gorodkin (2004), "Comparing two K-category assignments by a K-category correlation coefficient".
    """
    n, right = int(confusion.sum()), int(np.trace(confusion))
    predicted, truth = ([int(count) for count in confusion.sum(axis)] for axis in (0, 1))
    # In whole numbers, which Python has of any size: what is 0 is 0.
    covariance = right * n - sum(p * t for p, t in zip(predicted, truth, strict=True))
    spread = (n**2 - sum(p**2 for p in predicted)) * (n**2 - sum(t**2 for t in truth))
    return covariance / math.sqrt(spread) if spread else 0.0
