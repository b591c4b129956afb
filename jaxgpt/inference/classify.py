"""The labels, or the numbers, that a trained model gives to texts."""

from collections.abc import Iterable, Iterator

import jax
import numpy as np

from jaxgpt.data.examples import Examples
from jaxgpt.models.base import Model
from jaxgpt.objectives.classification import label_logits
from jaxgpt.progress_bar import stage
from jaxgpt.runtime import device

_label_logits = jax.jit(label_logits)


def head_outputs(model: Model, data: Examples) -> Iterator[np.ndarray]:
    """What a model's head says of each text: a logit for each label, or the number that a regression gives it.

    Args:
      model: with a head.
      data: texts, with or without labels, in rows of data.T tokens.

    Yields:
      float64 (rows, n_labels), batch after batch in the order of the file; the last has only the remaining texts.
    """
    remaining = data.count
    for batch in data.one_pass():
        arrays = device.put([batch[name] for name in ("tokens", "last", "second") if name in batch])
        outputs = np.asarray(_label_logits(model, *arrays), np.float64)[:remaining]
        remaining -= len(outputs)
        yield outputs


def log_probabilities(model: Model, data: Examples) -> Iterator[np.ndarray]:
    """The log probability of each label for each text, in nats; arguments and shapes as for `head_outputs`."""
    for logits in head_outputs(model, data):
        largest = logits.max(-1, keepdims=True)
        yield logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))


def collect(batches: Iterable[np.ndarray], count: int) -> np.ndarray:
    """The rows of all batches, (count, n_labels), with a progress bar."""
    parts = []
    with stage("texts", count) as advance:
        for part in batches:
            parts.append(part)
            advance(len(part))
    return np.concatenate(parts)
