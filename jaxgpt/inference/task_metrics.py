"""The metrics of benchmarks of tasks, by scikit-learn and SciPy: the one file that imports the former."""

import collections
import functools
import importlib.util
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from jaxgpt.data.benchmarks.predictions import Answer
from jaxgpt.errors import UsageError
from jaxgpt.inference.answer_metrics import INSTALL, exact_match, f1

COLUMNS = ("truth", "predicted")  # of answers, as scikit-learn and SciPy take them


def require_scikit_learn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(f"the metrics need scikit-learn, which is not installed: {INSTALL}")


def compute(metric: str, answers: Sequence[Answer], positive: str) -> float:
    """A metric of answers whose truth is known, from 0 to 1, a correlation from -1 to 1.

    Args:
      metric: its name in METRICS.
      positive: the label that F1 is of.
    """
    return float(METRICS[metric](answers, positive))


def _by_scikit_learn(name: str, **options: Any) -> Callable[[Sequence[Answer], str], float]:
    def measure(answers: Sequence[Answer], positive: str) -> float:
        import sklearn.metrics

        given = {key: positive if value is ... else value for key, value in options.items()}
        columns = ([getattr(answer, column) for answer in answers] for column in COLUMNS)
        with warnings.catch_warnings():  # that a metric is not defined, and so 0
            warnings.simplefilter("ignore")
            return getattr(sklearn.metrics, name)(*columns, **given)

    return measure


def correlation(name: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's or Spearman's; 0 where all numbers are alike, of which none is defined."""
    import scipy.stats

    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(getattr(scipy.stats, f"{name}r")(truth, predicted).statistic)


def _correlation(name: str, answers: Sequence[Answer], positive: str) -> float:
    return correlation(name, *(np.array([getattr(each, column) for each in answers]) for column in COLUMNS))


def question_exact(answers: Sequence[Answer], positive: str = "") -> float:
    """The share of questions, of which each has several labelled texts, with no label wrong."""
    are_right: dict[Any, bool] = collections.defaultdict(lambda: True)
    for answer in answers:
        are_right[answer.index[:-1]] &= answer.predicted == answer.truth
    return sum(are_right.values()) / len(are_right)


def _by_words(measure: Callable[[str, Sequence[str]], float], answers: Sequence[Answer], positive: str) -> float:
    """The mean over questions of how near the text of an answer is to the nearest that is right."""
    return float(np.mean([measure(answer.predicted, answer.truth) for answer in answers]))


METRICS: dict[str, Callable[[Sequence[Answer], str], float]] = {
    "accuracy": _by_scikit_learn("accuracy_score"),
    "f1": _by_scikit_learn("f1_score", pos_label=..., zero_division=0),
    "f1_macro": _by_scikit_learn("f1_score", average="macro", zero_division=0),
    "matthews": _by_scikit_learn("matthews_corrcoef"),
    "pearson": functools.partial(_correlation, "pearson"),
    "spearman": functools.partial(_correlation, "spearman"),
    "question_exact": question_exact,
    "answer_exact": functools.partial(_by_words, exact_match),
    "answer_f1": functools.partial(_by_words, f1),
}
