"""One training step: a pure function from state and batch to state and metrics."""

import dataclasses
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.convert import aligned
from jaxgpt.models.gpt2 import GPT2, GPT2Config, matmul_precision, unembed, unembedding
from jaxgpt.models.lora import join, split
from jaxgpt.models.ops.cross_entropy import cross_entropy

Loss = Callable[..., tuple[jax.Array, ...]]


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


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Fixed:
    """What a step reads and never changes.

    Attributes:
      base: the weights that are not trained, lora.split's second part; None: all are.
      key: of dropout; None: there is none.
    """

    base: GPT2 | None = None
    key: jax.Array | None = None


def init_state(key: jax.Array, *, config: GPT2Config, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step; jit it, or ask jax.eval_shape for its shapes alone."""
    return state_of(GPT2(config, key), tx=tx)


def state_of(model: GPT2, *, tx: optax.GradientTransformation) -> TrainState:
    """The state before the first step from given weights; of a model with adapters, of these alone."""
    trained, _ = split(model)
    return TrainState(jnp.zeros((), jnp.int32), trained, tx.init(trained))


def loss_fn(model: GPT2, x: jax.Array, y: jax.Array, keys: jax.Array | None = None) -> tuple[jax.Array, jax.Array]:
    """Next-token cross-entropy. Other objectives are in objectives.py.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, T), the token that follows each.
      keys: (B,), of each sequence's dropout; None: without.

    Returns:
      The sum over the B*T tokens in nats, and their count, both float32 (): what the mean over any batches is made of.
    """
    model = aligned(model)
    x = model.hidden(x, keys=keys)  # (B, T, C)
    with jax.named_scope("loss"):
        total = cross_entropy(x, unembedding(model), y, model.config.vocab_size)
    return total, jnp.float32(y.size)


def sums(
    model: Any,
    batch: tuple[jax.Array, ...],
    loss_fn: Loss,
    accumulate: int = 1,
    base: Any = None,
    keys: jax.Array | None = None,
) -> tuple[tuple[jax.Array, ...], Any]:
    """What `loss_fn` gives, the loss, the count and maybe more, and the gradient of the loss by `model`.

    All of it is summed over the batch.

    Args:
      base: the other part of the model, if `model` is one; it has no gradient.
      keys: (B,), of each sequence's dropout; None: without.
    """
    rows = batch, {} if keys is None else {"keys": keys}

    def loss(model: Any, rows: tuple) -> tuple[jax.Array, tuple[jax.Array, ...]]:
        batch, draws = rows
        total, *others = loss_fn(join(model, base), *batch, **draws)
        return total, tuple(others)

    def part(rows: tuple) -> tuple[tuple[jax.Array, ...], Any]:
        (total, others), grads = jax.value_and_grad(loss, has_aux=True)(model, rows)
        return (total, *others), grads

    if accumulate == 1:
        return part(rows)
    parts = jax.tree.map(lambda leaf: leaf.reshape(accumulate, -1, *leaf.shape[1:]), rows)
    zero = jax.tree.map(jnp.zeros_like, jax.eval_shape(part, jax.tree.map(lambda leaf: leaf[0], parts)))
    return jax.lax.scan(lambda so_far, rows: (jax.tree.map(jnp.add, so_far, part(rows)), None), zero, parts)[0]


def train_step(
    state: TrainState,
    batch: tuple[jax.Array, ...],
    fixed: Fixed = Fixed(),
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
      fixed: what is not trained.
      loss_fn: of the model and the arrays of a batch, the sum and the count that their mean is made of; of n heads also
        each one's own, (n,).
      accumulate: parts that the batch is computed in, one after the other, in the memory of one part and a gradient.
      sums: the loss, the count and the gradient of a batch; mesh.sums_over gives those of many devices.

    Returns:
      The next state, and float32 () metrics: `loss`, the mean over the batch before the update; `grad_norm`, the global
      norm of its gradient before clipping. Of several heads `loss` is the first one's, the next token's; `loss_2`, ...
      are the others'; and `loss_sum`, the sum over all heads, is what is minimised. Where the loss or the norm is not
      finite, the state is the old one but for its counters, if `tx` is of optimizer.make_optimizer; with another, its
      moments see a gradient of 0.
    """
    keys = None if fixed.key is None else sequence_keys(fixed.key, state.step, len(batch[0]))
    (total, count, *of_heads), grads = sums(state.model, batch, loss_fn, accumulate, fixed.base, keys)
    grad_norm = global_norm(grads) / count  # not of the mean: XLA would keep its squares for AdamW, a copy of all
    good = jnp.isfinite(total) & jnp.isfinite(grad_norm)
    grads = jax.tree.map(lambda g: jnp.where(good, g / count, 0), grads)
    with jax.named_scope("optimizer"):
        tx = optax.with_extra_args_support(tx)
        updates, opt_state = tx.update(grads, state.opt_state, state.model, good=good)
        model = jax.tree.map(lambda p, u: jnp.where(good, p + u, p), state.model, updates)
    metrics = {"loss": total / count, "grad_norm": grad_norm}
    if of_heads:
        losses, counts = of_heads
        first, *others = losses / jnp.maximum(counts, 1)  # of a short example no token may be so far ahead
        metrics |= {"loss": first, "loss_sum": total / count}
        metrics |= {f"loss_{i}": loss for i, loss in enumerate(others, 2)}
    return TrainState(state.step + 1, model, opt_state), metrics


def sequence_keys(key: jax.Array, step: jax.Array, B: int) -> jax.Array:
    """A key for each sequence of a step's batch, (B,), the same on any mesh and in any parts of the batch."""
    key = jax.random.fold_in(key, step)
    return jax.vmap(lambda row: jax.random.fold_in(key, row))(jnp.arange(B))


def global_norm(tree: Any) -> jax.Array:
    """The root of the sum of all squares, float32 ()."""
    leaves = jax.tree.leaves(tree)
    small = [leaf.ravel() for leaf in leaves if leaf.size < 2**16]  # biases: one vector of all spares a GPU ten kernels
    large = [leaf for leaf in leaves if leaf.size >= 2**16]
    return optax.tree.norm([*large, jnp.concatenate(small)] if small else large)


def token_losses(model: GPT2, x: jax.Array, y: jax.Array, positions: jax.Array | None = None) -> jax.Array:
    """Next-token cross-entropy of each token, in nats, float32 (B, T), with the logits of one sequence at a time.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, T), the token that follows each; the loss of one below 0 is 0.
      positions: int32 (B, T), where each token stands in its own document; None: each sequence is one.
    """
    return losses_of(model, model.hidden(x, positions), y)


def losses_of(model: GPT2, hidden: jax.Array, y: jax.Array) -> jax.Array:
    """The same of what the output matrix reads, (B, T, C)."""

    def of_sequence(sequence: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, y = sequence  # (T, C), (T,)
        with matmul_precision(model.config):
            logits = unembed(model, hidden)  # (T, V)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(y, 0))
        return jnp.where(y >= 0, losses, 0)

    return jax.lax.map(of_sequence, (hidden, y))


def eval_step(model: GPT2, batch: tuple[jax.Array, ...], *, loss_fn: Loss) -> jax.Array:
    """The mean loss of one batch, float32 ()."""
    return mean_loss(model, batch, loss_fn)


def mean_loss(model: Any, batch: tuple[jax.Array, ...], loss_fn: Loss) -> jax.Array:
    total, count, *_ = loss_fn(model, *batch)
    return total / count
