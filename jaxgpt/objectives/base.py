"""What a run can be trained for: the loss of a batch, and what is measured on one that was held out.

Each is a pair of pure functions of a model and the arrays of a batch; step, state, checkpoints and loop are the same.
"""

import dataclasses
from collections.abc import Callable

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.convert import aligned
from jaxgpt.models.gpt2 import GPT2, matmul_precision, unembedding
from jaxgpt.models.ops.cross_entropy import cross_entropy
from jaxgpt.objectives.multi_token import ahead, head_losses, multi_token_loss
from jaxgpt.training.step import Loss, loss_fn, token_losses

Sums = dict[str, jax.Array]


@dataclasses.dataclass(frozen=True)
class Objective:
    """A loss, and what is measured.

    Attributes:
      loss: (model, *batch, keys=None) to the sum and the count that the mean is made of, as step.train_step wants it.
      measure: (model, *batch) to float32 () sums over what counts: `loss`, `squares` of the single losses, `count`; of
        several heads those are the first one's, and `loss_2`, `count_2`, ... the others'.
      n_labels: classes of the head on the last token; 0: the model needs none.
    """

    loss: Loss
    measure: Callable[..., Sums]
    n_labels: int = 0


def objective_of(kind: str, n_labels: int = 0, predict_tokens: int = 1) -> Objective:
    """What a run on data of this kind is for: "text", "completions" or "labels"."""
    if kind == "labels":
        return Objective(label_loss, measure_labels, n_labels)
    if predict_tokens > 1:
        return Objective(multi_token_loss, measure_heads)
    return Objective(loss_fn if kind == "text" else completion_loss, measure_tokens)


def completion_loss(
    model: GPT2, x: jax.Array, y: jax.Array, positions: jax.Array, keys: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Next-token cross-entropy of completions alone, in sequences that hold several documents.

    Args:
      x: int32 (B, T), tokens.
      y: int32 (B, T), the token that follows each; below 0 where that is none of a completion.
      positions: int32 (B, T), where each token stands in its own document.
      keys: (B,), of each sequence's dropout; None: without.

    Returns:
      The sum over the tokens of completions in nats, and their number, both float32 ().
    """
    model = aligned(model)
    hidden = model.hidden(x, positions, keys)  # (B, T, C)
    with jax.named_scope("loss"):
        total = cross_entropy(hidden, unembedding(model), y, model.config.vocab_size)
    return total, (y >= 0).sum(dtype=jnp.float32)


def label_loss(
    model: GPT2, x: jax.Array, last: jax.Array, label: jax.Array, keys: jax.Array | None = None
) -> tuple[jax.Array, jax.Array]:
    """Cross-entropy of the label of each sequence.

    Args:
      x: int32 (B, T), tokens, padded on the right.
      last: int32 (B,), where the last token of each is.
      label: int32 (B,); one below 0 is not counted.
      keys: (B,), of each sequence's dropout; None: without.

    Returns:
      The sum over the sequences that count in nats, and their number, both float32 ().
    """
    losses = _label_losses(label_logits(model, x, last, keys), label)
    return losses.sum(), (label >= 0).sum(dtype=jnp.float32)


def label_logits(model: GPT2, x: jax.Array, last: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """A logit for each label by the head on the last token, float32 (B, n_labels); arguments as for `label_loss`."""
    hidden = model.hidden(x, keys=keys)  # (B, T, C)
    ends = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]  # (B, C)
    with matmul_precision(model.config), jax.named_scope("head"):
        return model.score(ends.astype(jnp.float32))


def measure_tokens(model: GPT2, x: jax.Array, y: jax.Array, positions: jax.Array | None = None) -> Sums:
    """Sums over the tokens whose y is not below 0."""
    return _sums(token_losses(model, x, y, positions), y >= 0)


def measure_heads(model: GPT2, x: jax.Array, y: jax.Array, positions: jax.Array | None = None) -> Sums:
    """As `measure_tokens`, of several heads; of a text y is (B, n, T), of completions as for `completion_loss`."""
    if positions is not None:
        y = ahead(y, positions, model.config.predict_tokens)
    losses = head_losses(model, x, y, positions)
    sums = _sums(losses[0], y[:, 0] >= 0)
    for i in range(1, len(losses)):
        of_head = _sums(losses[i], y[:, i] >= 0)
        sums |= {f"loss_{i + 1}": of_head["loss"], f"count_{i + 1}": of_head["count"]}
    return sums


def measure_labels(model: GPT2, x: jax.Array, last: jax.Array, label: jax.Array) -> Sums:
    """Sums over the sequences whose label is not below 0; `correct` counts those whose label is the likeliest."""
    logits = label_logits(model, x, last)
    correct = (logits.argmax(-1) == label).sum(dtype=jnp.float32)
    return _sums(_label_losses(logits, label), label >= 0) | {"correct": correct}


def _label_losses(logits: jax.Array, label: jax.Array) -> jax.Array:
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.maximum(label, 0))
    return jnp.where(label >= 0, losses, 0)


def _sums(losses: jax.Array, counts: jax.Array) -> Sums:
    return {"loss": losses.sum(), "squares": (losses**2).sum(), "count": counts.sum(dtype=jnp.float32)}
