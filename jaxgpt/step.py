"""One training step: a pure function from state and batch to state and metrics."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.loss import cross_entropy
from jaxgpt.model import GPT2, GPT2Config, aligned

Loss = Callable[..., tuple[jax.Array, jax.Array]]


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
    """All that a step changes. With the loader's position it is all that a run is.

    Attributes:
      step: int32 (), optimizer steps done.
      model: the parameters, float32.
      opt_state: the optimizer's moments and counters.
    """

    step: jax.Array
    model: GPT2
    opt_state: optax.OptState


def init_state(key: jax.Array, *, config: GPT2Config, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step; jit it, or ask jax.eval_shape for its shapes alone."""
    return state_of(GPT2(config, key), tx=tx)


def state_of(model: GPT2, *, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step from given weights."""
    return TrainState(jnp.zeros((), jnp.int32), model, tx.init(model))


def loss_fn(model: GPT2, x: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array]:
    """Next-token cross-entropy.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, T), the token that follows each.

    Returns:
      The sum over the B*T tokens in nats, and their count, both float32 (): what the mean over any batches is made of.
    """
    model = aligned(model)
    x = model.hidden(x)  # (B, T, C)
    with jax.named_scope("loss"):
        total = cross_entropy(x, model.wte.embedding[...], y, model.config.vocab_size)
    return total, jnp.float32(y.size)


def sums(
    model: Any, batch: tuple[jax.Array, ...], loss_fn: Loss, accumulate: int = 1
) -> tuple[jax.Array, jax.Array, Any]:
    """The loss, the count and the gradient of the loss, each summed over the batch."""

    def part(batch: tuple[jax.Array, ...]) -> tuple[jax.Array, jax.Array, Any]:
        (total, count), grads = jax.value_and_grad(loss_fn, has_aux=True)(model, *batch)
        return total, count, grads

    if accumulate == 1:
        return part(batch)
    parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), batch)
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, jax.tree.map(lambda leaf: leaf[0], parts)))
    return jax.lax.scan(lambda so_far, batch: (jax.tree.map(jnp.add, so_far, part(batch)), None), zero, parts)[0]


def train_step(
    state: TrainState,
    batch: tuple[jax.Array, ...],
    *,
    loss_fn: Loss,
    tx: optax.GradientTransformation,
    accumulate: int = 1,
    sums: Callable = sums,
) -> tuple[TrainState, dict[str, jax.Array]]:
    """One optimizer step on one batch.

    Bind what is static before compiling, and give the old state's memory to the new one:
    `jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx), donate_argnums=0)`.

    Args:
      batch: arrays whose first axis is the sequences; `accumulate` divides their number.
      accumulate: parts that the batch is computed in, one after the other, in the memory of one part and a gradient.
      sums: the loss, the count and the gradient of a batch; mesh.sums_over gives those of many devices.

    Returns:
      The next state, and float32 () metrics: `loss`, the mean over the batch before the update; `grad_norm`, the global
      norm of its gradient before clipping. Where one of them is not finite, the state is the old one but for its
      counters, if `tx` is of optimizer.make_optimizer; with another, its moments see a gradient of 0.
    """
    total, count, grads = sums(state.model, batch, loss_fn, accumulate)
    grad_norm = global_norm(grads) / count  # not of the mean: XLA would keep its squares for AdamW, a copy of all
    good = jnp.isfinite(total) & jnp.isfinite(grad_norm)
    grads = jax.tree.map(lambda g: jnp.where(good, g / count, 0), grads)
    with jax.named_scope("optimizer"):
        tx = optax.with_extra_args_support(tx)
        updates, opt_state = tx.update(grads, state.opt_state, state.model, good=good)
        model = jax.tree.map(lambda p, u: jnp.where(good, p + u, p), state.model, updates)
    metrics = {"loss": total / count, "grad_norm": grad_norm}
    return TrainState(state.step + 1, model, opt_state), metrics


def global_norm(tree: Any) -> jax.Array:
    """The root of the sum of all squares, float32 ()."""
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size < 2**16]  # biases: one vector of all spares a GPU ten kernels
    large = [leaf for leaf in leaves if leaf.size >= 2**16]
    return optax.tree.norm([*large, jnp.concatenate(small)] if small else large)


def token_losses(model: GPT2, x: jax.Array, y: jax.Array) -> jax.Array:
    """Next-token cross-entropy of each token, in nats, float32 (B, T); a sequence at a time, in the memory of one.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, T), the token that follows each.
    """

    def of_sequence(sequence: tuple[jax.Array, jax.Array]) -> jax.Array:
        x, y = sequence
        return optax.softmax_cross_entropy_with_integer_labels(model(x[None])[0], y)

    return jax.lax.map(of_sequence, (x, y))


def eval_step(model: GPT2, batch: tuple[jax.Array, ...], *, loss_fn: Loss) -> jax.Array:
    """The mean loss of one batch, float32 ()."""
    return mean_loss(model, batch, loss_fn)


def mean_loss(model: Any, batch: tuple[jax.Array, ...], loss_fn: Loss) -> jax.Array:
    total, count = loss_fn(model, *batch)
    return total / count
