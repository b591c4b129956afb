"""Multi-token prediction: n heads, each of which predicts a token further ahead, trained in the memory of one.

Gloeckle et al. (2024), "Better & Faster Large Language Models via Multi-token Prediction", section 2. The model is
gpt2.GPT2 with config.predict_tokens.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxgpt.models.base import matmul_precision
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.models.gpt2 import GPT2, GPT2Config
from jaxgpt.models.layers import layer_keys, remat
from jaxgpt.models.ops.attention import first_visible_positions
from jaxgpt.models.ops.cross_entropy import cross_entropy
from jaxgpt.objectives.base import Batch, Metrics, Objective, count_targets, loss_sums
from jaxgpt.objectives.next_token import hidden_losses


def loss(model: GPT2, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """All heads' cross-entropies, in nats: "loss_sum", with equal weights (equation 2), is minimized.

    "loss" is the next token's, to compare with other runs, and "loss_2", ... are those of the tokens further ahead;
    these have no gradient of their own.

    Args:
      batch: int32 `tokens` (B, T) and `targets` (B, n, T): targets[:, i] has the tokens i + 1 places ahead; one below 0
        is not counted. With `positions` (B, T), where each token stands in its own document, targets are (B, T), the
        token that follows each, and `targets_ahead` finds the others.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    model = pad_vocab_for_gpu(model)
    config, positions = model.config, batch.get("positions")
    targets = _targets(batch, config.predict_tokens)
    z = model.trunk(batch["tokens"], positions, keys)
    head_keys = None if keys is None else layer_keys(keys, config.n_layer)[config.depth - 1 :]  # (n, B)
    heads = model.heads(), targets.swapaxes(0, 1), head_keys
    with matmul_precision(config):
        shared = z, model.ln_f, model.unembedding()
        total, losses = _sum_head_losses(config, shared, heads, first_visible_positions(positions))
    counts = count_targets(targets, (0, 2))
    return {"loss": (losses[0], counts[0]), "loss_sum": (total, counts[0])} | _metrics_ahead(losses, counts)


def measure(model: GPT2, batch: Batch) -> Metrics:
    """The next token's loss with its squares, and the losses of the tokens further ahead."""
    targets = _targets(batch, model.config.predict_tokens)
    losses = head_losses(model, batch["tokens"], targets, batch.get("positions"))
    counts = (targets >= 0).sum((0, 2), dtype=jnp.float32)
    return loss_sums(losses[0], targets[:, 0] >= 0) | _metrics_ahead(losses.sum((1, 2)), counts)


def _targets(batch: Batch, n: int) -> jax.Array:
    """The targets of all heads, (B, n, T)."""
    positions = batch.get("positions")
    return batch["targets"] if positions is None else targets_ahead(batch["targets"], positions, n)


def _metrics_ahead(losses: jax.Array, counts: jax.Array) -> Metrics:
    return {f"loss_{i + 1}": (losses[i], counts[i]) for i in range(1, len(losses))}


def targets_ahead(y: jax.Array, positions: jax.Array, n: int) -> jax.Array:
    """The tokens 1, 2, ... n places ahead, (B, n, T), in sequences that hold several documents; -1 where there is none.

    Args:
      y: int32 (B, T), the token that follows each; below 0 where it is not to be learned.
      positions: int32 (B, T), where each token stands in its own document.
    """

    def shift(i: int) -> jax.Array:
        positions_ahead = jnp.pad(positions[:, i:], ((0, 0), (0, i)), constant_values=-1)
        same_document = positions_ahead == positions + i  # a document that begins in between begins with 0
        return jnp.where(same_document, jnp.pad(y[:, i:], ((0, 0), (0, i))), -1)

    return jnp.stack([shift(i) for i in range(n)], axis=1)


def head_losses(model: GPT2, x: jax.Array, y: jax.Array, positions: jax.Array | None = None) -> jax.Array:
    """The cross-entropy of each token by each head, in nats, float32 (n, B, T), one head and sequence at a time.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, n, T), as `loss` has targets; the loss of one below 0 is 0.
      positions: as `loss` has them; None: each sequence is one document.
    """
    z, T, first_visible = model.trunk(x, positions), x.shape[1], first_visible_positions(positions)

    def loss_of_head(head: tuple[Any, jax.Array]) -> jax.Array:
        block, y = head
        with matmul_precision(model.config):
            hidden = model.ln_f(block(z, T, first_visible)).reshape(*x.shape, -1)
        return hidden_losses(model, hidden, y)

    return jax.lax.map(loss_of_head, (model.heads(), y.swapaxes(0, 1)))


def _loss(config: GPT2Config, shared: Any, head: Any, first_visible: jax.Array | None) -> jax.Array:
    """A head's loss, (), from what all heads share and from the head's own block, targets and keys."""
    (z, ln_f, table), (block, y, keys) = shared, head
    B, T = y.shape
    x = remat(lambda z, block: block(z, T, first_visible, keys), config.remat)(z, block)  # (B*T, C)
    with jax.named_scope("loss"):
        return cross_entropy(ln_f(x).reshape(B, T, -1), table, y, config.vocab_size)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _sum_head_losses(
    config: GPT2Config, shared: Any, heads: Any, first_visible: jax.Array | None
) -> tuple[jax.Array, jax.Array]:
    """The sum of the heads' losses, (), and each of them, (n,), computed one head after the other.

    When a gradient is asked for, each head runs backward before the next runs forward, and adds its part of the
    gradient of the shared weights (figure 2). So no more than one head's logits and activations ever exist.
    """
    return _forward(config, shared, heads, first_visible)[0]


def _forward(config: GPT2Config, shared: Any, heads: Any, first_visible: jax.Array | None) -> tuple:
    def add(dshared_sum: Any, head: Any) -> tuple[Any, tuple[jax.Array, Any]]:
        (z, *shared_weights), (block, *head_inputs) = shared, head
        z, _ = jax.lax.optimization_barrier((z, dshared_sum))  # a head begins when the one before it is done

        def loss(shared: Any, block: Any) -> jax.Array:
            return _loss(config, shared, (block, *head_inputs), first_visible)

        total, (dshared, dblock) = jax.value_and_grad(loss, argnums=(0, 1))((z, *shared_weights), block)
        return jax.tree.map(jnp.add, dshared_sum, dshared), (total, dblock)

    # On a GPU a loop would break the program's one CUDA graph; on a CPU the barrier does nothing, and a loop does.
    loop = functools.partial(jax.lax.scan, add)
    unrolled = functools.partial(loop, unroll=True)
    zeros = jax.tree.map(jnp.zeros_like, shared)
    dshared, (losses, dblocks) = jax.lax.platform_dependent(zeros, heads, cpu=loop, default=unrolled)
    return (losses.sum(), losses), (dshared, dblocks)


def _backward(config: GPT2Config, gradients: Any, g: tuple[jax.Array, jax.Array]) -> tuple:
    dshared, dblocks = jax.tree.map(lambda x: (g[0] * x).astype(x.dtype), gradients)
    return dshared, (dblocks, None, None), None


_sum_head_losses.defvjp(_forward, _backward)

OBJECTIVE = Objective("multi_token", "text", loss, measure, minimize="loss_sum", multi_token=True)
COMPLETION_OBJECTIVE = dataclasses.replace(OBJECTIVE, name="multi_token_completion", data="completions")
