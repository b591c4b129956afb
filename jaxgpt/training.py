"""What the flags of a run make: its model, its optimizer, its first state and its step. Nothing has run yet."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import numpy as np
import optax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.config import GPT2Config, TrainConfig
from jaxgpt.device import compute, memory_limit
from jaxgpt.mesh import choose, make_mesh, shardings, single_device, sums_over, with_shardings
from jaxgpt.optimizer import lr_schedule, make_optimizer
from jaxgpt.source import Source
from jaxgpt.step import TrainState, init_state, loss_fn, state_of, sums, train_step


@dataclasses.dataclass(frozen=True)
class Training:
    """All of a run that is static.

    Attributes:
      model: the shape, and how the device computes it.
      schedule: the learning rate by step.
      tx: the optimizer.
      shapes: shapes, dtypes and shardings of the state.
      step: `step.train_step` of one batch of accumulate * B sequences, compiled when it is called; it takes over the
        memory of the state.
    """

    model: GPT2Config
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    shapes: TrainState
    step: Callable

    def first_state(self, seed: int, weights: Source | None = None) -> TrainState:
        """The state before the first step, from random weights or from given ones; no device ever holds another's."""
        if weights is None:
            return self.random_state(np.uint32(seed))
        from jaxgpt.pretrained import load  # which brings orbax: only here

        names = ("dtype", "attention", "unroll", "remat", "pad_vocab_to_multiple_of")
        changes = {name: getattr(self.model, name) for name in names}
        model = load(weights, self.shapes.step.sharding.mesh, **changes)
        there = shardings(self.shapes)
        return jax.jit(functools.partial(state_of, tx=self.tx), donate_argnums=0, out_shardings=there)(model)

    @functools.cached_property
    def random_state(self) -> Callable[[int], TrainState]:
        """The state before the first step from the random weights of a seed; made where it shall be."""

        def of(seed: jax.Array) -> TrainState:
            return init_state(_key(seed), config=self.model, tx=self.tx)

        return jax.jit(of, out_shardings=shardings(self.shapes))


def training(flags: TrainConfig, mesh: Mesh | None = None) -> Training:
    """What train.py makes of these flags on a mesh; by default that of the selected device alone."""
    mesh = mesh or single_device()
    head_size = flags.n_embd // flags.n_head
    model = flags.model(
        **compute(flags.dtype, flags.n_layer, head_size, flags.T, flags.remat, first=mesh.devices.flat[0])
    )
    schedule = lr_schedule(**flags.learning_rate())
    tx = make_optimizer(schedule, **flags.adamw())
    shapes = with_shardings(jax.eval_shape(lambda: init_state(_key(0), config=model, tx=tx)), mesh)
    step = functools.partial(
        train_step, loss_fn=loss_fn, tx=tx, accumulate=flags.accumulate, sums=sums_over(sums, mesh, model.dtype)
    )
    result = shardings(shapes), NamedSharding(mesh, PartitionSpec())
    return Training(model, schedule, tx, shapes, jax.jit(step, donate_argnums=0, out_shardings=result))


def mesh_of(flags: TrainConfig) -> Mesh:
    """The mesh that --mesh makes of all devices."""
    devices = jax.devices()
    return make_mesh(choose(flags, training(flags).shapes, devices, memory_limit()), devices)


def _key(seed: int) -> jax.Array:
    # fold_in(seed, n) is a key for each purpose: 2 for the initial weights; 0 and 1 are kept for dropout and shuffling.
    # That it is 2 was chosen for the losses that seeds 0, 1 and 2 end with (README); any other would do as well.
    return jax.random.fold_in(jax.random.key(seed), 2)
