"""What the flags of a run make: its model, its optimizer, its first state and its step. Nothing has run yet."""

import dataclasses
import functools
from collections.abc import Callable, Iterable

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.convert import predicting
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.models.lora import filled, join, split
from jaxgpt.objectives.base import Objective, objective_of
from jaxgpt.runs.weights import Source
from jaxgpt.runtime.device import compute, memory_limit
from jaxgpt.runtime.mesh import (
    choose,
    make_mesh,
    measured_over,
    sequences,
    shardings,
    single_device,
    sums_over,
    with_shardings,
)
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer
from jaxgpt.training.step import Fixed, TrainState, init_state, state_of, sums, train_step


@dataclasses.dataclass(frozen=True)
class Training:
    """All of a run that is static.

    Attributes:
      model: the shape, and how the device computes it.
      schedule: the learning rate by step.
      tx: the optimizer.
      shapes: shapes, dtypes and shardings of the state.
      fixed: the same of what a step reads and never changes.
      step: `step.train_step` of one batch of accumulate * B sequences, compiled when it is called; it takes over the
        memory of the state.
      measure: sums over a batch, `objectives.Objective.measure`, of (state.model, fixed.base, batch).
    """

    model: GPT2Config
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    shapes: TrainState
    fixed: Fixed
    step: Callable
    measure: Callable

    def first_state(self, seed: int, weights: Source | None = None) -> TrainState:
        """The state before the first step, from random weights or from given ones; no device ever holds another's."""
        if weights is None or self.model.lora:  # what adapters begin with is none of the weights
            return self.random_state(np.uint32(seed))

        def of(seed: jax.Array, model: GPT2) -> TrainState:
            return state_of(filled(GPT2(self.model, _key(seed, WEIGHTS)), model), tx=self.tx)

        there = shardings(self.shapes)
        return jax.jit(of, donate_argnums=1, out_shardings=there)(np.uint32(seed), self._load(weights))

    @functools.cached_property
    def random_state(self) -> Callable[[int], TrainState]:
        """The state before the first step from the random weights of a seed; made where it shall be."""

        def of(seed: jax.Array) -> TrainState:
            return init_state(_key(seed, WEIGHTS), config=self.model, tx=self.tx)

        return jax.jit(of, out_shardings=shardings(self.shapes))

    def first_fixed(self, seed: int, weights: Source | None = None) -> Fixed:
        """What a step reads and never changes, of a run with this seed and these weights."""
        base = key = None
        if self.model.lora:
            base = filled(self.fixed.base, self._load(weights))
        if self.model.dropout:
            make = functools.partial(_key, purpose=DROPOUT)
            key = jax.jit(make, out_shardings=self.fixed.key.sharding)(np.uint32(seed))
        return Fixed(base, key)

    def compiled_step(self, batch: Iterable[np.ndarray], B: int, fixed: Fixed) -> jax.stages.Compiled:
        """`step` for batches of B sequences like these, which may be fewer."""
        return self.step.lower(self.shapes, self._described(batch, B), fixed).compile()

    def compiled_measure(self, batch: Iterable[np.ndarray], B: int, fixed: Fixed) -> jax.stages.Compiled:
        """`measure` for batches of B sequences like these, which may be fewer."""
        return self.measure.lower(self.shapes.model, fixed.base, self._described(batch, B)).compile()

    def _described(self, batch: Iterable[np.ndarray], B: int) -> tuple[jax.ShapeDtypeStruct, ...]:
        rows = sequences(self.shapes.step.sharding.mesh)
        return tuple(jax.ShapeDtypeStruct((B, *array.shape[1:]), "int32", sharding=rows) for array in batch)

    def _load(self, weights: Source) -> GPT2:
        from jaxgpt.runs.huggingface import load  # which brings orbax: only here

        names = ("dtype", "attention", "unroll", "remat", "dropout", "pad_vocab_to_multiple_of")
        changes = {name: getattr(self.model, name) for name in names}
        return predicting(load(weights, self.shapes.step.sharding.mesh, **changes), self.model.predict_tokens)


def training(flags: TrainConfig, mesh: Mesh | None = None, objective: Objective | None = None) -> Training:
    """What train.py makes of these flags on a mesh; by default that of the selected device alone.

    Args:
      objective: what it is trained for; None: the tokens of a text.
    """
    mesh = mesh or single_device()
    objective = objective or objective_of("text", predict_tokens=flags.predict_tokens)
    head_size = flags.n_embd // flags.n_head
    model = flags.model(
        **compute(flags.dtype, flags.n_layer, head_size, flags.T, flags.remat, first=mesh.devices.flat[0]),
        n_labels=objective.n_labels,
    )
    schedule = lr_schedule(**flags.learning_rate())
    tx = make_optimizer(schedule, **flags.adamw())
    shapes, fixed = with_shardings(jax.eval_shape(lambda: _all(model, tx)), mesh)
    step = functools.partial(
        train_step,
        loss_fn=objective.loss,
        tx=tx,
        accumulate=flags.accumulate,
        sums=sums_over(sums, mesh, model.dtype),
    )
    result = shardings(shapes), NamedSharding(mesh, PartitionSpec())
    measure = measured_over(objective.measure, mesh, model.dtype)
    return Training(
        model,
        schedule,
        tx,
        shapes,
        fixed,
        step=jax.jit(step, donate_argnums=0, out_shardings=result),
        measure=jax.jit(lambda trained, base, batch: measure(join(trained, base), *batch)),
    )


def mesh_of(flags: TrainConfig, objective: Objective | None = None) -> Mesh:
    """The mesh that --mesh makes of all devices."""
    devices, static = jax.devices(), training(flags, objective=objective)
    return make_mesh(choose(flags, static.shapes, devices, memory_limit(), static.fixed.base), devices)


def _all(model: GPT2Config, tx: optax.GradientTransformation) -> tuple[TrainState, Fixed]:
    _, base = split(GPT2(model, _key(0, WEIGHTS)))
    return init_state(_key(0, WEIGHTS), config=model, tx=tx), Fixed(base, _key(0, DROPOUT) if model.dropout else None)


# What the keys of a seed are for. That the weights have 2 was chosen for the losses that seeds 0, 1 and 2 end with
# (README); any other would do as well.
DROPOUT, WEIGHTS = 0, 2


def _key(seed: int, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), purpose)
