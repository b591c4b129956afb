"""The hidden tokens of a text, each told from all others: what an encoder is trained for (Devlin et al., 2019)."""

import math

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model, matmul_precision, unembed
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.objectives.base import Batch, Metrics, Objective, count_targets, loss_sums
from jaxgpt.objectives.next_token import sum_losses


def loss(model: Model, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """Cross-entropy of the hidden tokens, in nats.

    Args:
      batch: int32 (B, T): `tokens`, some of them hidden; `targets`, what these were, and below 0 elsewhere; with
        padding `positions`, where each token stands in its own document.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    model = pad_vocab_for_gpu(model)
    hidden = model.hidden(batch["tokens"], batch.get("positions"), keys)  # (B, T, C)
    total = sum_losses(model, hidden, batch["targets"])
    return {"loss": (total, count_targets(batch["targets"]))}


def measure(model: Model, batch: Batch) -> Metrics:
    """The loss with its squares, the same in bits, and the share of hidden tokens that are the likeliest there."""
    targets = batch["targets"]

    def of_sequence(sequence: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        hidden, targets = sequence  # (T, C), (T,)
        with matmul_precision(model.config):
            logits = unembed(model, hidden)  # (T, V): of one sequence at a time
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(targets, 0))
        return jnp.where(targets >= 0, losses, 0), logits.argmax(-1) == targets

    losses, correct = jax.lax.map(of_sequence, (model.hidden(batch["tokens"], batch.get("positions")), targets))
    metrics = loss_sums(losses, targets >= 0)
    total, count = metrics["loss"]
    correct = correct.sum(dtype=jnp.float32)
    return metrics | {"bits_per_masked_token": (total / math.log(2), count), "accuracy": (correct, count)}


OBJECTIVE = Objective("masked", "masked", loss, measure)
