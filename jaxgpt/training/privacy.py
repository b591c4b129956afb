"""DP-SGD on the devices: the gradient of each row, clipped, their sum, and noise that is added to it once.

Abadi et al. (2016), "Deep Learning with Differential Privacy", algorithm 1, with batches by data.poisson. What leaves
these functions depends on a single row by a vector of norm `clip` at most, whatever that row is:

- A row's loss is the mean over its own tokens, and no other row is part of it. Its whole gradient, one vector over all
  trained parameters, is scaled down to `clip`. The weights of tied embeddings are one parameter, by autodiff.
- A gradient or a loss that is not finite counts as 0. No step is skipped for its data, an empty one neither.
- The sum is divided by the expected number of rows: the actual one would tell whether a row was drawn.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.lora import combine
from jaxgpt.objectives.base import Batch, Metrics, Objective

DRAWN = "clipped"  # the metric whose count is the number of rows that were drawn


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Noise:
    """What is added to the sum of a step's clipped gradients.

    Attributes:
      key: of the run; nobody else may know it.
      deviation: float32 (), of each number's noise: the noise multiplier times the clipping norm.
      expected: float32 (), the expected number of rows of a step.
    """

    key: jax.Array
    deviation: jax.Array
    expected: jax.Array


def make_noise(words: jax.Array, deviation: jax.Array, expected: jax.Array) -> Noise:
    """The noise of a secret, uint32 (2,)."""
    return Noise(jax.random.wrap_key_data(words, impl="threefry2x32"), deviation, expected)


def clipped_loss_and_grads(
    model: Any,
    batch: Batch,
    objective: Objective,
    accumulate: int = 1,
    base: Any = None,
    keys: jax.Array | None = None,
    *,
    clip: float,
    microbatch: int = 1,
) -> tuple[Metrics, Any]:
    """As step.loss_and_grads, with the sum of the drawn rows' clipped gradients; metrics are those of the drawn rows.

    The loop ends behind the last row that was drawn: filling costs nothing.

    Args:
      batch: as poisson.Poisson has it; `microbatch` divides its rows.
      accumulate: of no effect: it makes the batch larger, and `microbatch` says what is computed at a time.
      clip: the largest norm of a row's gradient.
      microbatch: rows at a time, of which each has a gradient in memory.

    Returns:
      The metrics, and `clipped`: how many of the drawn rows had a longer gradient, or none.
    """
    rows = {name: array for name, array in batch.items() if name != "slot"}, keys
    drawn = batch["slot"] >= 0

    def part_at(i: jax.Array) -> tuple[Metrics, Any]:
        part, is_drawn = jax.tree.map(
            lambda leaf: jax.lax.dynamic_slice_in_dim(leaf, i * microbatch, microbatch), (rows, drawn)
        )
        if microbatch == 1:  # without vmap a row is computed as any batch of one is
            return row_loss_and_grads(model, part, is_drawn[0], objective, base, clip)
        part = jax.tree.map(lambda leaf: leaf[:, None], part)
        each = jax.vmap(lambda row, is_drawn: row_loss_and_grads(model, row, is_drawn, objective, base, clip))
        return jax.tree.map(lambda leaf: leaf.sum(0), each(part, is_drawn))

    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part_at, jnp.int32(0)))
    parts = -(-drawn.sum() // microbatch)
    return jax.lax.fori_loop(0, parts, lambda i, total: jax.tree.map(jnp.add, total, part_at(i)), zero)


def row_loss_and_grads(
    model: Any, row: tuple[Batch, jax.Array | None], is_drawn: jax.Array, objective: Objective, base: Any, clip: float
) -> tuple[Metrics, Any]:
    """One row's metrics and clipped gradient, 0 if it is not drawn; its arrays have an axis of length 1 before."""

    def loss(model: Any) -> tuple[jax.Array, Metrics]:
        metrics = objective.loss(combine(model, base), *row)
        total, count = metrics[objective.minimize]
        return total / jnp.where(count > 0, count, 1), metrics

    (value, metrics), grads = jax.value_and_grad(loss, has_aux=True)(model)
    norm = optax.tree.norm(grads)
    counts = is_drawn & jnp.isfinite(value) & jnp.isfinite(norm)
    scale = clip / jnp.maximum(norm, clip)
    grads = jax.tree.map(lambda g: jnp.where(counts, scale * g, 0), grads)
    metrics = jax.tree.map(lambda metric: jnp.where(counts, metric, 0), metrics)
    is_clipped = is_drawn & ~(norm <= clip)
    return metrics | {DRAWN: (is_clipped.astype(jnp.float32), is_drawn.astype(jnp.float32))}, grads


def add_noise(grads: Any, noise: Noise, step: jax.Array) -> Any:
    """Normal noise on every number of the sums, which depends on the key and the step alone: not on the mesh."""
    leaves, tree = jax.tree.flatten(grads)
    keys = jax.random.split(jax.random.fold_in(noise.key, step), len(leaves))
    draws = [jax.random.normal(key, leaf.shape) for leaf, key in zip(leaves, keys, strict=True)]
    return jax.tree.unflatten(tree, [g + noise.deviation * draw for g, draw in zip(leaves, draws, strict=True)])


def privatize(metrics: Metrics, grads: Any, noise: Noise, step: jax.Array, model: Any, minimize: str) -> tuple:
    """What step.train_step continues with: the noisy sums, and the minimized metric as a mean times its divisor.

    The mean is 0 where no row was drawn, and NaN where a parameter is not finite: whether a step is skipped, or ends
    the run, depends on what is public. `drawn` is how many rows were.
    """
    total, count = metrics[minimize]
    mean = jnp.where(jnp.isfinite(optax.tree.norm(model)), total / jnp.where(count > 0, count, 1), jnp.nan)
    drawn = metrics[DRAWN][1], jnp.float32(1)
    metrics = metrics | {minimize: (mean * noise.expected, noise.expected), "drawn": drawn}
    return metrics, add_noise(grads, noise, step)
