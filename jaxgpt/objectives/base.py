"""What an objective is: a loss of a model on a batch, and what is measured on validation data, both as sums."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp

Batch = dict[str, jax.Array]  # int32 or float32 arrays by name; the first axis of each is the sequences
Metrics = dict[str, tuple[jax.Array, jax.Array]]  # (sum, count) by name, float32 (): what a mean over any batches needs


@dataclasses.dataclass(frozen=True)
class Objective:
    """A pair of pure functions. A loss names the arrays of a batch that it reads, and takes no others.

    Attributes:
      name: its name in OBJECTIVES.
      data: the kind of data it reads: "text", or the name of a kind of examples, such as "completions".
      loss: (model, batch, keys) to Metrics with "loss". keys, (B,), are each sequence's dropout keys; None: no dropout.
      measure: (model, batch) to Metrics on validation data; None: `loss` without dropout. With "loss_squared", the sum
        of the squares of the single losses, the mean gets a standard error.
      minimize: which metric of `loss` is minimized; all are logged.
      multi_token: whether the model must predict several tokens.
      labels: the names of the outputs of a head on the last token; none: the model needs no head.
      settings: names of keyword arguments of `loss` and `measure` that a run may set.
      by_name: whether a run must name it, even where no other reads such data.
      reference: (model, batch) to a column of the data, `reference`, by the weights that a run begins with; None: it
        reads none.
      credit: of rollouts, as objectives.policy has it: rewards to advantages and weights; None: it reads other data.
      show: the metric that is shown beside the loss; "": none.
    """

    name: str
    data: str
    loss: Callable[..., Metrics]
    measure: Callable[..., Metrics] | None = None
    minimize: str = "loss"
    multi_token: bool = False
    labels: tuple[str, ...] = ()
    settings: tuple[str, ...] = ()
    by_name: bool = False
    reference: Callable[..., jax.Array] | None = None
    credit: Callable[..., tuple[Any, Any]] | None = None
    show: str = ""

    def validation_metrics(self, model: Any, batch: Batch) -> Metrics:
        """What is measured on a batch of validation data."""
        return self.measure(model, batch) if self.measure else self.loss(model, batch, None)


def count_targets(targets: jax.Array, axis: tuple[int, ...] | None = None) -> jax.Array:
    """How many targets are not below 0, float32; a trifle for none, so that a batch that was erased has the loss 0."""
    return jnp.maximum((targets >= 0).sum(axis, dtype=jnp.float32), jnp.float32(1e-30))


def mean(metric: tuple[jax.Array, jax.Array]) -> jax.Array:
    """The mean of a metric, float32 (); NaN where nothing was counted."""
    total, count = metric
    return total / count


def loss_sums(losses: jax.Array, counted: jax.Array) -> Metrics:
    """The metrics of single losses; those that are not counted must be 0."""
    count = counted.sum(dtype=jnp.float32)
    return {"loss": (losses.sum(), count), "loss_squared": ((losses**2).sum(), count)}
