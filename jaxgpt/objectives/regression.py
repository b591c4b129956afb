"""Regression: a number for a text, such as how similar two sentences are, by a head of one output."""

import jax

from jaxgpt.models.base import Model
from jaxgpt.models.configs import SCORE
from jaxgpt.objectives.base import Batch, Metrics, Objective, loss_sums
from jaxgpt.objectives.classification import label_logits


def loss(model: Model, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """The mean squared error, as `transformers` has it for the problem type "regression".

    Args:
      batch: as for classification.loss, but with float32 `score` (B,) and `weight` (B,), 0 for a row that does not
        count, in place of `labels`.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    errors = _squared_errors(model, batch, keys)
    return {"loss": (errors.sum(), batch["weight"].sum())}


def measure(model: Model, batch: Batch) -> Metrics:
    """The sums of the squared errors and of their squares."""
    return loss_sums(_squared_errors(model, batch), batch["weight"])


def _squared_errors(model: Model, batch: Batch, keys: jax.Array | None = None) -> jax.Array:
    scores = label_logits(model, batch["tokens"], batch["last"], batch.get("second"), keys)[:, 0]
    return batch["weight"] * (scores - batch["score"]) ** 2


OBJECTIVE = Objective("regression", "scores", loss, measure, labels=SCORE)
