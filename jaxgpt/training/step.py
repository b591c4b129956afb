"""One training step: a pure function from state and batch to state and metrics."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model, build
from jaxgpt.models.configs import ModelConfig
from jaxgpt.models.lora import combine, partition
from jaxgpt.objectives.base import Batch, Metrics, Objective, mean
from jaxgpt.training.privacy import Noise, privatize


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes. With the loader's position it is all that a run is.

    Attributes:
      step: int32 (), optimizer steps done.
      model: the trained parameters, float32.
      opt_state: the optimizer's moments and counters.
    """

    step: jax.Array
    model: Model
    opt_state: optax.OptState


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class FrozenInputs:
    """What a step reads and never changes.

    Attributes:
      base: the weights that are not trained, lora.partition's second part; None: all are trained.
      key: of dropout; None: there is none.
      noise: of a private run; None: it is none.
    """

    base: Model | None = None
    key: jax.Array | None = None
    noise: Noise | None = None


def init_state(key: jax.Array, *, config: ModelConfig, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step; jit it, or ask jax.eval_shape for its shapes alone."""
    return init_state_from(build(config, key), tx=tx)


def init_state_from(model: Model, *, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step from given weights; a model with adapters trains these alone."""
    trained, _ = partition(model)
    return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained))


def loss_and_grads(
    model: Any,
    batch: Batch,
    objective: Objective,
    accumulate: int = 1,
    base: Any = None,
    keys: jax.Array | None = None,
) -> tuple[Metrics, Any]:
    """The metrics of a batch, and the gradient of the minimized one's sum by `model`; all are sums over the batch.

    Args:
      accumulate: parts that the batch is computed in, one after the other.
      base: the other part of the model, if `model` is one; it has no gradient.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """

    def minimized(model: Any, rows: tuple) -> tuple[jax.Array, Metrics]:
        metrics = objective.loss(combine(model, base), *rows)
        return metrics[objective.minimize][0], metrics

    def part(rows: tuple) -> tuple[Metrics, Any]:
        (_, metrics), grads = jax.value_and_grad(minimized, has_aux=True)(model, rows)
        return metrics, grads

    rows = batch, keys
    if accumulate == 1:
        return part(rows)
    parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), rows)
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, jax.tree.map(lambda leaf: leaf[0], parts)))
    return jax.lax.scan(lambda total, rows: (jax.tree.map(jnp.add, total, part(rows)), None), zero, parts)[0]


def train_step(
    state: TrainState,
    batch: Batch,
    frozen: FrozenInputs = FrozenInputs(),
    *,
    objective: Objective,
    tx: optax.GradientTransformation,
    accumulate: int = 1,
    updates: int = 1,
    loss_and_grads: Callable[..., tuple[Metrics, Any]] = loss_and_grads,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step on one batch.

    Bind what is static before compiling, and give the old state's memory to the new one:
    `jax.jit(functools.partial(train_step, objective=objective, tx=tx), donate_argnums=0)`.

    Args:
      batch: arrays whose first axis is the sequences; `accumulate` divides their number.
      frozen: what is not trained.
      objective: the loss.
      accumulate: parts that the batch is computed in, one after the other, in the memory of one part and a gradient.
      updates: of the optimizer, on the same batch; the metrics are their means.
      loss_and_grads: for many devices, mesh.sharded_loss_and_grads; for a private run, privacy.clipped_loss_and_grads.

    Returns:
      The next state, and float32 () metrics: the objective's as means over the batch before the update, and
      `grad_norm`, the global norm of the minimized mean's gradient before clipping. Where the minimized mean or the
      norm is not finite, the state is the old one but for `step`, if `tx` is of optimizer.make_optimizer; with
      another, its moments see a gradient of 0.
    """
    if updates > 1:
        options = {"objective": objective, "tx": tx, "accumulate": accumulate, "loss_and_grads": loss_and_grads}

        def update(state: TrainState, _: None) -> tuple[TrainState, dict[str, jax.Array]]:
            new, metrics = train_step(state, batch, frozen, **options)
            return dataclasses.replace(new, step=state.step), metrics

        new, metrics = jax.lax.scan(update, state, length=updates)
        return dataclasses.replace(new, step=state.step + 1), jax.tree.map(lambda each: each.mean(), metrics)
    rows = batch.get("slot", jnp.arange(len(batch["tokens"])))
    keys = None if frozen.key is None else sequence_keys(frozen.key, state.step, rows)
    metrics, grads = loss_and_grads(state.model, batch, objective, accumulate, frozen.base, keys)
    if frozen.noise is not None:
        metrics, grads = privatize(metrics, grads, frozen.noise, state.step, state.model, objective.minimize)
    total, count = metrics[objective.minimize]
    grad_norm = global_norm(grads) / count  # not of the mean: XLA would keep its squares for AdamW, a copy of all
    is_finite = jnp.isfinite(total) & jnp.isfinite(grad_norm)
    grads = jax.tree.map(lambda g: jnp.where(is_finite, g / count, 0), grads)
    with jax.named_scope("optimizer"):
        tx = optax.with_extra_args_support(tx)
        updates, opt_state = tx.update(grads, state.opt_state, state.model, is_finite=is_finite)
        # The optimizer's counters stay with a skipped step; its moments were chosen in optimizer.adam.
        opt_state = jax.tree.map(
            lambda new, old: new if new.ndim else jnp.where(is_finite, new, old), opt_state, state.opt_state
        )
        model = jax.tree.map(lambda p, u: jnp.where(is_finite, p + u, p), state.model, updates)
    means = {name: mean(metric) for name, metric in metrics.items()} | {objective.minimize: total / count}
    return TrainState(state.step + 1, model, opt_state), means | {"grad_norm": grad_norm}


def sequence_keys(key: jax.Array, step: jax.Array, rows: jax.Array) -> jax.Array:
    """A key for each of these rows of a step's batch, (B,), the same on any mesh and in any parts of the batch."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(rows)


def global_norm(tree: Any) -> jax.Array:
    """The root of the sum of all squares, float32 ()."""
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size < 2**16]  # biases: one vector of all spares a GPU ten kernels
    large = [leaf for leaf in leaves if leaf.size >= 2**16]
    return optax.tree.norm([*large, jnp.concatenate(small)] if small else large)
