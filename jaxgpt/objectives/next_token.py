"""The next token of a text: what a GPT is trained for."""

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model, matmul_precision, unembed
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.models.ops.cross_entropy import cross_entropy
from jaxgpt.objectives.base import Batch, Metrics, Objective, loss_sums


def loss(model: Model, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """The cross-entropy of each token that follows, in nats, summed over the batch's B*T tokens.

    Args:
      batch: int32 (B, T): `tokens`, and `targets`, the token that follows each. One below 0, which was erased, has the
        loss 0 and counts, so that all others weigh what they did, and a batch without others has no gradient.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    model = pad_vocab_for_gpu(model)
    x = model.hidden(batch["tokens"], keys=keys)  # (B, T, C)
    return {"loss": (sum_losses(model, x, batch["targets"]), jnp.float32(batch["targets"].size))}


@jax.named_scope("loss")
def sum_losses(model: Model, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """The sum of hidden_losses, float32 (), by cross_entropy: with a gradient, and without the logits in memory."""
    config = model.config
    return cross_entropy(hidden, model.unembedding(), targets, config.vocab_size, config.logits_soft_cap)


def measure(model: Model, batch: Batch) -> Metrics:
    """The sums of the loss and its squares over the targets that are not below 0."""
    return loss_sums(token_losses(model, **batch), batch["targets"] >= 0)


def token_losses(model: Model, tokens: jax.Array, targets: jax.Array, positions: jax.Array | None = None) -> jax.Array:
    """The cross-entropy of each target, in nats, float32 (B, T), with the logits of one sequence at a time.

    Args:
      tokens: int32 (B, T).
      targets: int32 (B, T), the token that follows each; the loss of one below 0 is 0.
      positions: int32 (B, T), where each token stands in its own document; None: each sequence is one.
    """
    return hidden_losses(model, model.hidden(tokens, positions), targets)


def hidden_losses(model: Model, hidden: jax.Array, targets: jax.Array) -> jax.Array:
    """As token_losses, from what the output matrix reads, (B, T, C)."""

    def losses_of_sequence(sequence: tuple[jax.Array, jax.Array]) -> jax.Array:
        hidden, targets = sequence  # (T, C), (T,)
        with matmul_precision(model.config):
            logits = unembed(model, hidden)  # (T, V)
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        return jnp.where(targets >= 0, losses, 0)

    return jax.lax.map(losses_of_sequence, (hidden, targets))


OBJECTIVE = Objective("next_token", "text", loss, measure)
