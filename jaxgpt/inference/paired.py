"""Two models on the same windows of a text, or the same questions: the change, and its standard error.

What is hard for one model is hard for the other, so the differences vary far less than the numbers themselves, and a
change is seen that their own standard errors would hide.
"""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np

from jaxgpt.data.text import Text
from jaxgpt.inference.multiple_choice import ratio_and_error
from jaxgpt.models.base import Model
from jaxgpt.objectives import choose_objective
from jaxgpt.runtime import device


@dataclasses.dataclass(frozen=True)
class Sums:
    """What a model has measured, item by item: of each window or question the sum of a number, and its count.

    Attributes:
      values, counts: float64 (n,); the mean is sum(values) / sum(counts).
    """

    values: np.ndarray
    counts: np.ndarray

    @property
    def mean(self) -> float:
        return float(self.values.sum() / self.counts.sum())


@dataclasses.dataclass(frozen=True)
class Change:
    """From one model to another: the means, their difference, and its standard error."""

    before: float
    after: float
    change: float
    stderr: float


def compare(before: Sums, after: Sums) -> Change:
    """The change of the mean, with each item, not each token, taken for a draw of its own.

    The error is that of the items' differences; NaN for a single item. Tokens of a window depend on each other, and may
    vary together.
    """
    return Change(before.mean, after.mean, *ratio_and_error(after.values - before.values, after.counts))


def window_losses(model: Model, data: Text, on_progress: Callable[[int], None] = lambda done: None) -> Sums:
    """The loss of each window of a text in nats, summed over its tokens, and their number."""
    objective = choose_objective(data.kind, predict_tokens=model.config.predict_tokens)

    @jax.jit
    def measure(model, batch):
        def of_window(window):
            return objective.validation_metrics(model, {name: array[None] for name, array in window.items()})["loss"]

        return jax.lax.map(of_window, batch)

    sums = []
    for batch in data.one_pass():
        sums.append(np.stack(jax.device_get(measure(model, device.put(batch))), dtype=np.float64))
        on_progress(data.B)
    values, counts = np.concatenate(sums, axis=1)[:, : data.num_rows()]
    return Sums(values, counts)
