"""What is built from a run's flags: its model, its optimizer, its first state and its step. Nothing has run yet."""

import dataclasses
import functools
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.data.base import Batch, Dataset
from jaxgpt.data.poisson import num_batch_rows
from jaxgpt.models.base import Model, architecture, build, shapes
from jaxgpt.models.configs import ModelConfig
from jaxgpt.models.convert import with_n_heads
from jaxgpt.models.lora import combine, partition, with_base_weights
from jaxgpt.objectives import choose_objective
from jaxgpt.objectives.base import Metrics, Objective
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.runtime import device
from jaxgpt.runtime.mesh import (
    batch_sharding,
    choose_axes,
    device_bytes,
    make_mesh,
    sharded_loss_and_grads,
    sharded_measure,
    shardings,
    single_device,
    with_shardings,
)
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer
from jaxgpt.training.privacy import clipped_loss_and_grads, make_noise
from jaxgpt.training.step import FrozenInputs, TrainState, init_state, init_state_from, loss_and_grads, train_step

LESS_MEMORY = "use a smaller --B (and --accumulate), --T or --size, or --remat full"


@dataclasses.dataclass(frozen=True)
class CompiledTrainer:
    """What the loop trains with: programs compiled for batches of one shape, and the way to the devices.

    Attributes:
      step: (state, batch on the devices) to the next state and metrics; it takes over the state's memory.
      measure: (model, batch on the devices) to Metrics of validation data; None: there is none.
      sharding: where the sequences of a batch are.
      step_bytes: what the step takes of a device's memory, the state included, by XLA's plan; None: there is no plan.
    """

    step: Callable[[TrainState, Any], tuple[TrainState, dict[str, jax.Array]]]
    measure: Callable[[Model, Any], Metrics] | None
    sharding: NamedSharding
    step_bytes: int | None

    def put(self, batch: Batch) -> dict[str, jax.Array]:
        """Move a batch to the devices: a run's only host-to-device transfer."""
        return device.put(batch, to=self.sharding)


@dataclasses.dataclass(frozen=True)
class Trainer:
    """All of a run that is static.

    Attributes:
      model: the model's config, and how the device computes it.
      mesh: the devices.
      schedule: the learning rate by step.
      tx: the optimizer.
      shapes: shapes, dtypes and shardings of the state.
      frozen: those of what a step reads and never changes.
      step: jitted step.train_step for a batch of accumulate * B sequences; it takes over the memory of the state.
      measure: jitted Objective.validation_metrics of (state.model, frozen.base, batch).
    """

    model: ModelConfig
    mesh: Mesh
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    shapes: TrainState
    frozen: FrozenInputs
    step: Callable
    measure: Callable

    @property
    def sharding(self) -> NamedSharding:
        """Where the sequences of a batch are."""
        return batch_sharding(self.mesh)

    def init_state(self, seed: int, weights: WeightsRef | None = None, labels: Sequence[str] = ()) -> TrainState:
        """The state before the first step, from random weights or from given ones; no device ever holds another's.

        Args:
          labels: of the data. A head for the same ones is taken from the weights; else it is new.
        """
        head = head_numbers(weights, labels)
        if weights is None or (self.model.lora and not head):  # adapters begin with none of the other weights
            return self.random_state(np.uint32(seed))
        if self.model.lora:
            state = self.random_state(np.uint32(seed))
            return dataclasses.replace(state, model=with_base_weights(state.model, self.load(weights), head))

        def state_from(seed: jax.Array, model: Model) -> TrainState:
            new = build(self.model, _key(seed, WEIGHTS_KEY))
            return init_state_from(with_base_weights(new, model, head), tx=self.tx)

        model = self.load(weights)
        if model.config.n_labels and not head:
            model = with_base_weights(shapes(dataclasses.replace(model.config, n_labels=0)), model)
        init_on_devices = jax.jit(state_from, donate_argnums=1, out_shardings=shardings(self.shapes))
        return init_on_devices(np.uint32(seed), model)

    @functools.cached_property
    def random_state(self) -> Callable[[int], TrainState]:
        """The state before the first step from the random weights of a seed, made in its shards."""

        def make_state(seed: jax.Array) -> TrainState:
            return init_state(_key(seed, WEIGHTS_KEY), config=self.model, tx=self.tx)

        return jax.jit(make_state, out_shardings=shardings(self.shapes))

    def init_frozen(
        self, seed: int, weights: WeightsRef | None = None, noise: tuple[np.ndarray, float, float] | None = None
    ) -> FrozenInputs:
        """What a step reads and never changes, of a run with this seed and these weights.

        Args:
          noise: of a private run, as privacy.make_noise takes it.
        """
        base = key = made = None
        if self.model.lora:
            base = with_base_weights(self.frozen.base, self.load(weights))
        if self.model.dropout:
            make = functools.partial(_key, purpose=DROPOUT_KEY)
            key = jax.jit(make, out_shardings=self.frozen.key.sharding)(np.uint32(seed))
        if noise:
            words, *numbers = noise
            make = jax.jit(make_noise, out_shardings=shardings(self.frozen.noise))
            made = make(words, *map(np.float32, numbers))
        return FrozenInputs(base, key, made)

    def compile(self, frozen: FrozenInputs, data: Dataset, validation: Dataset | None = None) -> CompiledTrainer:
        """The step for the batches of `data`, and the measuring of `validation`, compiled.

        Raises:
          RetryableError: they take more memory than is free.
        """
        example, _ = dataclasses.replace(data, rows=slice(1)).batch(0)
        batch = self.batch_shapes(example, num_batch_rows(data))
        with stage("compiling the training step"):
            step, measure = self.step.lower(self.shapes, batch, frozen).compile(), None
        if validation:
            example = next(dataclasses.replace(validation, B=1).one_pass())
            batch = self.batch_shapes(example, validation.B)
            with stage("compiling the validation"):
                measure = self.measure.lower(self.shapes.model, frozen.base, batch).compile()
        for program in filter(None, (step, measure)):
            device.require_memory(program.memory_analysis(), LESS_MEMORY, len(self.mesh.local_devices))
        plan = step.memory_analysis()
        return CompiledTrainer(
            lambda state, batch: step(state, batch, frozen),
            measure and (lambda model, batch: measure(model, frozen.base, batch)),
            self.sharding,
            plan and plan.argument_size_in_bytes + device.extra_bytes(plan),
        )

    def batch_shapes(self, batch: Batch, B: int) -> dict[str, jax.ShapeDtypeStruct]:
        """Shapes and shardings of a batch of B sequences with the arrays of this one, which may have fewer."""
        return {
            name: jax.ShapeDtypeStruct((B, *array.shape[1:]), array.dtype, sharding=self.sharding)
            for name, array in batch.items()
        }

    def load(self, weights: WeightsRef) -> Model:
        """Weights in their shards, computed as the run computes its model."""
        from jaxgpt.runs.huggingface import load  # which brings orbax: only here

        fields = {field.name for field in dataclasses.fields(self.model)}
        names = {"dtype", "attention", "unroll", "remat", "dropout", "pad_vocab_to_multiple_of"} & fields
        changes = {name: getattr(self.model, name) for name in names}
        return with_n_heads(load(weights, self.mesh, **changes), self.model.predict_tokens)


def head_numbers(weights: WeightsRef | None, labels: Sequence[str]) -> tuple[int, ...]:
    """The number of each label in the weights' head; empty if that is for other labels."""
    if weights is None or set(weights.labels) != set(labels):
        return ()
    return tuple(weights.labels.index(label) for label in labels)


def build_trainer(
    config: TrainConfig, mesh: Mesh | None = None, objective: Objective | None = None, lead: float = 0
) -> Trainer:
    """Build the trainer of these flags on a mesh; by default on the selected device alone.

    Args:
      objective: what is minimized; None: the usual one for a text.
      lead: as optimizer.lr_schedule has it.
    """
    mesh = mesh or single_device()
    shape, flags = config.model_config(), config.model
    kind = "masked" if shape.bidirectional else "text"
    objective = objective or choose_objective(kind, predict_tokens=config.preset.predict_tokens)
    computed = device.compute(
        flags.dtype, shape.n_layer, shape.head_size, config.data.T, flags.remat, first=mesh.devices.flat[0]
    )
    model = dataclasses.replace(shape, **computed, n_labels=len(objective.labels))
    schedule = lr_schedule(config.optimizer, config.run.steps, lead)
    updates = config.rollout.updates
    tx = make_optimizer(config.optimizer, schedule if updates == 1 else lambda count: schedule(count // updates))
    rules = architecture(model).SHARDING_RULES
    privacy, compute = config.privacy, loss_and_grads
    if privacy.is_private:
        options = {"clip": privacy.dp_clip, "microbatch": privacy.dp_microbatch}
        compute = functools.partial(clipped_loss_and_grads, **options)
    shapes, frozen = with_shardings(jax.eval_shape(lambda: _init_all(model, tx, privacy.is_private)), mesh, rules)
    step = functools.partial(
        train_step,
        objective=objective,
        tx=tx,
        accumulate=config.data.accumulate,
        updates=updates,
        loss_and_grads=sharded_loss_and_grads(compute, mesh, model.dtype, rules),
    )
    result = shardings(shapes), NamedSharding(mesh, PartitionSpec())
    measure = sharded_measure(objective.validation_metrics, mesh, model.dtype, rules)
    return Trainer(
        model,
        mesh,
        schedule,
        tx,
        shapes,
        frozen,
        step=jax.jit(step, donate_argnums=0, out_shardings=result),
        measure=jax.jit(lambda trained, base, batch: measure(combine(trained, base), batch)),
    )


def objective_of(config: TrainConfig, kind: str, labels: Sequence[str]) -> Objective:
    """The objective of these flags on data of a kind with these labels; errors as choose_objective's."""
    preset = config.preset
    return choose_objective(kind, preset.objective, labels, preset.predict_tokens, config.post_training.settings)


def choose_mesh(config: TrainConfig, objective: Objective | None = None) -> Mesh:
    """The mesh that --mesh makes of all devices."""
    devices, trainer = jax.devices(), build_trainer(config, objective=objective)
    tree = trainer.shapes, trainer.shapes.model, trainer.frozen.base  # a gradient is as large as the model
    needed = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(tree))
    widths = {name: getattr(trainer.model, name) for name in trainer.model.sharded}
    axes = config.parallel.axes, config.data.B, widths, needed, device.memory_limit(), len(devices)
    return make_mesh(choose_axes(*axes), devices)


# ---- Ahead of time: the step compiled for devices that need not be there


@dataclasses.dataclass(frozen=True)
class StepMemory:
    """What a step takes of a device's memory, in bytes.

    Attributes:
      parameters, optimizer: there before and after the step.
      temporary: what lives only within it: activations, gradients, copies in the compute dtype.
    """

    parameters: int
    optimizer: int
    temporary: int

    @property
    def total(self) -> int:
        return self.parameters + self.optimizer + self.temporary


def compile_step(config: TrainConfig, mesh: Mesh) -> jax.stages.Compiled:
    """The training step of these flags for a text, compiled for a mesh."""
    trainer = build_trainer(config, mesh)
    B, T, n = config.data.B_step, config.data.T, config.preset.predict_tokens
    shapes = {"tokens": (B, T), "targets": (B, T) if n == 1 else (B, n, T)}
    if config.privacy.is_private:
        multiple = mesh.size * config.privacy.dp_microbatch
        shapes = {name: (-(-B // multiple) * multiple, *rest) for name, (B, *rest) in {**shapes, "slot": (B,)}.items()}
    batch = {name: jax.ShapeDtypeStruct(shape, "int32", sharding=trainer.sharding) for name, shape in shapes.items()}
    lowered = trainer.step.lower(trainer.shapes, batch, trainer.frozen)
    with warnings.catch_warnings():  # JAX's cache keeps what it then can't read for a GPU that is not there
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
        return lowered.compile()


def step_memory(config: TrainConfig, mesh: Mesh) -> StepMemory | None:
    """What that step takes of one device; None if XLA finds no plan for it."""
    trainer = build_trainer(config, mesh)
    parameters = device_bytes((trainer.shapes.model, trainer.frozen.base))
    optimizer = device_bytes(trainer.shapes.opt_state)
    try:
        plan = compile_step(config, mesh).memory_analysis()
    except RuntimeError as error:  # too much memory; or, of a small model, a B that makes an axis longer than 2**31
        if "RESOURCE_EXHAUSTED" not in str(error) and "Invalid dimension size" not in str(error):
            raise
        return None
    return StepMemory(parameters, optimizer, temporary=device.extra_bytes(plan))


def _init_all(
    model: ModelConfig, tx: optax.GradientTransformation, is_private: bool
) -> tuple[TrainState, FrozenInputs]:
    _, base = partition(build(model, _key(0, WEIGHTS_KEY)))
    key = _key(0, DROPOUT_KEY) if model.dropout else None
    noise = make_noise(jnp.zeros(2, jnp.uint32), jnp.float32(0), jnp.float32(0)) if is_private else None
    return init_state(_key(0, WEIGHTS_KEY), config=model, tx=tx), FrozenInputs(base, key, noise)


DROPOUT_KEY, WEIGHTS_KEY = 0, 1  # what the keys of a seed are for


def _key(seed: int, purpose: int) -> jax.Array:
    return jax.random.fold_in(jax.random.key(seed), purpose)
