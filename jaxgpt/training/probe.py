"""What is measured inside a model while it trains: the scores of its attention heads, in rows of log.jsonl."""

import dataclasses
from collections.abc import Callable

import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.data.base import Dataset, all_rows
from jaxgpt.inference.induction import draw_repeated, head_scores
from jaxgpt.models.base import Model
from jaxgpt.models.lora import combine
from jaxgpt.runtime import device

DEFAULT_EVERY = 100  # steps between two measurements
POOL = 4096  # tokens that a run reads first, from which the random ones are drawn: an untrained token tells nothing


@dataclasses.dataclass(frozen=True)
class Probe:
    """Measures the heads of a model at times of a run; a pure function of the weights.

    Attributes:
      measure: a run's trained model to numbers by the name of their column, on the devices.
      every: steps between two measurements.
    """

    measure: Callable[[Model], dict[str, jax.Array]]
    every: int

    def due(self, step: int) -> bool:
        """Whether to measure after so many steps."""
        return step % self.every == 0


def make_probe(every: int | None, data: Dataset, base: Model | None, block_size: int, mesh: Mesh) -> Probe:
    """The probe that --probe induction asks for: the highest of each of induction.head_scores.

    Args:
      every: steps between two measurements; None: DEFAULT_EVERY.
      data: the run's batches.
      base: frozen weights under adapters; None: there are none.
    """
    replicated = NamedSharding(mesh, PartitionSpec())

    def highest_scores(trained: Model, base: Model | None, tokens: jax.Array) -> dict[str, jax.Array]:
        scores = head_scores(combine(trained, base), tokens)
        return {f"probe_{name}": values.max() for name, values in scores.items()}

    tokens = device.put(draw_repeated(first_tokens(data), block_size), replicated)
    program = jax.jit(highest_scores, out_shardings=replicated)
    return Probe(lambda trained: program(trained, base, tokens), every or DEFAULT_EVERY)


def first_tokens(data: Dataset) -> np.ndarray:
    """The different ids among the first POOL tokens that a run reads, whatever its batch size."""
    data, position, parts = dataclasses.replace(data, rows=all_rows()), 0, []
    while sum(map(len, parts)) < POOL:
        batch, position = data.batch(position)
        parts.append(batch["tokens"].ravel())
    return np.unique(np.concatenate(parts)[:POOL])
