"""The label of a text, by a head on its last token (Radford et al., 2018, section 3.2), or an encoder's first one."""

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model, matmul_precision
from jaxgpt.objectives.base import Batch, Metrics, Objective, loss_sums


def loss(model: Model, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """Cross-entropy of the label of each sequence, in nats.

    Args:
      batch: int32: `tokens` (B, T), padded on the right; `last` (B,), where the last token of each is; `labels` (B,),
        of which those below 0 are not counted; for an encoder also `second`, as for label_logits.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    losses = _losses(label_logits(model, batch["tokens"], batch["last"], batch.get("second"), keys), batch["labels"])
    return {"loss": (losses.sum(), (batch["labels"] >= 0).sum(dtype=jnp.float32))}


def measure(model: Model, batch: Batch) -> Metrics:
    """The sums of the loss and its squares, and the accuracy of the likeliest label."""
    labels = batch["labels"]
    logits = label_logits(model, batch["tokens"], batch["last"], batch.get("second"))
    metrics = loss_sums(_losses(logits, labels), labels >= 0)
    correct = (logits.argmax(-1) == labels).sum(dtype=jnp.float32)
    return metrics | {"accuracy": (correct, metrics["loss"][1])}


def label_logits(
    model: Model,
    tokens: jax.Array,
    last: jax.Array,
    second: jax.Array | None = None,
    keys: jax.Array | None = None,
) -> jax.Array:
    """A logit for each label, float32 (B, n_labels); arguments as for `loss`.

    Args:
      second: int32 (B,), the column where the second text of a pair begins, for an encoder; 0, or None: no pair.
    """
    if model.config.bidirectional:
        column, last = jnp.arange(tokens.shape[1])[None], last[:, None]
        positions = jnp.where(column > last, column - last - 1, column)  # the padding is a document of its own
        types = None
        if second is not None and model.config.token_types > 1:
            types = ((column >= second[:, None]) & (second[:, None] > 0) & (column <= last)).astype(jnp.int32)
        return model.label_logits(model.encode(tokens, positions, keys, types)[:, 0])
    hidden = model.hidden(tokens, keys=keys)  # (B, T, C)
    last_hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]  # (B, C)
    with matmul_precision(model.config), jax.named_scope("head"):
        return model.score(last_hidden.astype(jnp.float32))


def _losses(logits: jax.Array, labels: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(labels, 0))
    return jnp.where(labels >= 0, losses, 0)


OBJECTIVE = Objective("classification", "labels", loss, measure)
