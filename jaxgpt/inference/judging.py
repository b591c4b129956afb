"""How a trained model judges answers: by its log-probabilities, or by the rewards of a reward model."""

from collections.abc import Callable, Iterator
from typing import Any

import jax
import numpy as np

from jaxgpt.data.examples import Examples
from jaxgpt.inference.multiple_choice import mean_and_error
from jaxgpt.models.base import Model
from jaxgpt.objectives.base import Batch
from jaxgpt.objectives.preferences import rewards_of, score_answers
from jaxgpt.runtime import device

Advance = Callable[[int], None]
_rewards = jax.jit(rewards_of)


@jax.jit
def _log_probs(model: Model, batch: Batch) -> tuple[jax.Array, jax.Array]:
    answers = score_answers(model, batch)
    return answers.log_probs, answers.means


def log_probs(model: Model, data: Examples, advance: Advance = lambda rows: None) -> tuple[np.ndarray, np.ndarray]:
    """The log-probability of each answer, in nats, and its mean over the answer's tokens, float64.

    Args:
      data: pairs, for arrays (R, 2), or rated answers, (R,).
      advance: called after each batch with the number of its rows.
    """
    sums, means = zip(*_map_batches(_log_probs, model, data, advance), strict=True)
    return np.concatenate(sums), np.concatenate(means)


def rewards(model: Model, data: Examples, advance: Advance = lambda rows: None) -> np.ndarray:
    """The reward of each answer, float64; arguments and shape as for log_probs."""
    return np.concatenate([*_map_batches(_rewards, model, data, advance)])


def _map_batches(function: Callable, model: Model, data: Examples, advance: Advance) -> Iterator[Any]:
    for number, batch in enumerate(data.one_pass()):
        rows = min(data.B, data.num_rows() - number * data.B)  # the last batch is filled up
        arrays = device.put({name: batch[name] for name in ("tokens", "start", "last")})
        results = jax.device_get(function(model, arrays))
        yield jax.tree.map(lambda array, rows=rows: np.asarray(array[:rows], np.float64), results)
        advance(rows)


def pair_accuracy(scores: np.ndarray) -> dict[str, float]:
    """How often the chosen answer of a pair has the higher score, and by how much, with standard errors.

    Args:
      scores: (R, 2), of the chosen and of the rejected answers.
    """
    margins = scores[:, 0] - scores[:, 1]
    accuracy, accuracy_stderr = mean_and_error((margins > 0).tolist())
    margin, margin_stderr = mean_and_error(margins.tolist())
    accuracies = {"accuracy": accuracy, "accuracy_stderr": accuracy_stderr}
    return accuracies | {"margin": margin, "margin_stderr": margin_stderr}


def rating_auc(scores: np.ndarray, good: np.ndarray) -> dict[str, float]:
    """How often a good answer has a higher score than a bad one, over all such pairs: the area under the ROC curve.

    Half of the ties count. The standard error is DeLong's (1988): of the mean over good answers, each one's share of
    the bad ones below it, and of that over bad ones. Without good answers, or bad ones, it is nan.

    Args:
      scores, good: (R,).
    """
    a, b = scores[good > 0], scores[good <= 0]
    if not (len(a) and len(b)):
        return {"auc": float("nan"), "auc_stderr": float("nan")}
    auc, error = mean_and_error(_share_below(a, b).tolist())
    _, other_error = mean_and_error((1 - _share_below(b, a)).tolist())
    return {"auc": auc, "auc_stderr": float(np.hypot(error, other_error))}


def _share_below(values: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Of each value, the share of the others that are smaller; of equals the half."""
    others = np.sort(others)
    return (np.searchsorted(others, values) + np.searchsorted(others, values, "right")) / (2 * len(others))
