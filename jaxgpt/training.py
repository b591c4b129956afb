"""What the flags of a run make: its model, its optimizer, its first state and its step. Nothing has run yet."""

import dataclasses
import functools
from collections.abc import Callable

import jax
import optax

from jaxgpt.config import GPT2Config, TrainConfig
from jaxgpt.device import compute
from jaxgpt.optimizer import lr_schedule, make_optimizer
from jaxgpt.source import Source
from jaxgpt.step import TrainState, init_state, loss_fn, state_of, train_step


@dataclasses.dataclass(frozen=True)
class Training:
    """All of a run that is static.

    Attributes:
      model: the shape, and how the device computes it.
      schedule: the learning rate by step.
      tx: the optimizer.
      step: `step.train_step` of one batch of accumulate * B sequences, compiled when it is called; it takes over the
        memory of the state.
    """

    model: GPT2Config
    schedule: optax.Schedule
    tx: optax.GradientTransformation
    step: Callable

    def first_state(self, seed: int, weights: Source | None = None) -> TrainState:
        """The state before the first step, from random weights or from given ones."""
        if weights is None:
            return self._new_state(_key(seed))
        from jaxgpt.pretrained import load  # which brings orbax: only here

        names = ("dtype", "attention", "unroll", "remat", "pad_vocab_to_multiple_of")
        model = load(weights, **{name: getattr(self.model, name) for name in names})
        return jax.jit(functools.partial(state_of, tx=self.tx), donate_argnums=0)(model)

    def shapes(self) -> TrainState:
        """Shapes and dtypes of the state."""
        return jax.eval_shape(self._new_state, _key(0))

    @functools.cached_property
    def _new_state(self) -> Callable[[jax.Array], TrainState]:
        return jax.jit(functools.partial(init_state, config=self.model, tx=self.tx))


def training(flags: TrainConfig, on: jax.Device | None = None) -> Training:
    """What train.py makes of these flags on a device, by default the selected one."""
    head_size = flags.n_embd // flags.n_head
    model = flags.model(**compute(flags.dtype, flags.n_layer, head_size, flags.T, flags.remat, on))
    schedule = lr_schedule(**flags.learning_rate())
    tx = make_optimizer(schedule, **flags.adamw())
    step = functools.partial(train_step, loss_fn=loss_fn, tx=tx, accumulate=flags.accumulate)
    return Training(model, schedule, tx, jax.jit(step, donate_argnums=0))


def _key(seed: int) -> jax.Array:
    # fold_in(seed, n) is a key for each purpose: 2 for the initial weights; 0 and 1 are kept for dropout and shuffling.
    # That it is 2 was chosen for the losses that seeds 0, 1 and 2 end with (README); any other would do as well.
    return jax.random.fold_in(jax.random.key(seed), 2)
