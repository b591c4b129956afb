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


def require_scikit_learn() -> None:
    if importlib.util.find_spec("sklearn") is None:
        raise UsageError(f"the metrics need scikit-learn, which is not installed: {INSTALL}")


def compute(metric: str, answers: Sequence[Answer], positive: str) -> float:
    """A metric of answers whose truth is known, from 0 to 1, a correlation from -1 to 1.

    Args:
      metric: its name in METRICS.
      positive: the label whose precision and recall F1 combines.
    """
    return float(METRICS[metric](answers, positive))


def _columns(answers: Sequence[Answer]) -> tuple[list[Any], list[Any]]:
    """What is right and what is predicted, in scikit-learn's and SciPy's order."""
    return [each.truth for each in answers], [each.predicted for each in answers]


def _by_scikit_learn(name: str, answers: Sequence[Answer], **options: Any) -> float:
    import sklearn.metrics

    with warnings.catch_warnings():  # it warns where a metric is not defined, and so 0
        warnings.simplefilter("ignore")
        return getattr(sklearn.metrics, name)(*_columns(answers), **options)


def correlation(name: str, truth: np.ndarray, predicted: np.ndarray) -> float:
    """Pearson's or Spearman's; 0 where it is not defined, since all numbers are equal."""
    import scipy.stats

    if len(truth) < 2 or np.ptp(truth) == 0 or np.ptp(predicted) == 0:
        return 0.0
    return float(getattr(scipy.stats, f"{name}r")(truth, predicted).statistic)


def _correlation(name: str, answers: Sequence[Answer], positive: str) -> float:
    return correlation(name, *map(np.array, _columns(answers)))


def question_exact(answers: Sequence[Answer], positive: str = "") -> float:
    """The share of questions with no wrong label; a question has several labelled texts."""
    are_right: dict[Any, bool] = collections.defaultdict(lambda: True)
    for answer in answers:
        are_right[answer.index[:-1]] &= answer.predicted == answer.truth
    return sum(are_right.values()) / len(are_right)


def _by_words(measure: Callable[[str, Sequence[str]], float], answers: Sequence[Answer], positive: str) -> float:
    """The mean over questions of a measure of the predicted text and those that are right."""
    return float(np.mean([measure(answer.predicted, answer.truth) for answer in answers]))


METRICS: dict[str, Callable[[Sequence[Answer], str], float]] = {
    "accuracy": lambda answers, _: _by_scikit_learn("accuracy_score", answers),
    "f1": lambda answers, positive: _by_scikit_learn("f1_score", answers, pos_label=positive, zero_division=0),
    "f1_macro": lambda answers, _: _by_scikit_learn("f1_score", answers, average="macro", zero_division=0),
    "matthews": lambda answers, _: _by_scikit_learn("matthews_corrcoef", answers),
    "pearson": functools.partial(_correlation, "pearson"),
    "spearman": functools.partial(_correlation, "spearman"),
    "question_exact": question_exact,
    "answer_exact": functools.partial(_by_words, exact_match),
    "answer_f1": functools.partial(_by_words, f1),
}
