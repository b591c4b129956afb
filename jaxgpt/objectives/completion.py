"""The tokens of completions alone, in sequences that hold several documents: supervised fine-tuning."""

import jax
import jax.numpy as jnp

from jaxgpt.models.base import Model
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.objectives import next_token
from jaxgpt.objectives.base import Batch, Metrics, Objective


def loss(model: Model, batch: Batch, keys: jax.Array | None = None) -> Metrics:
    """Next-token cross-entropy of completions, in nats.

    Args:
      batch: int32 (B, T): `tokens`; `targets`, the token that follows each, below 0 where that is not of a completion;
        `positions`, where each token stands in its own document.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    model = pad_vocab_for_gpu(model)
    hidden = model.hidden(batch["tokens"], batch["positions"], keys)  # (B, T, C)
    total = next_token.sum_losses(model, hidden, batch["targets"])
    return {"loss": (total, (batch["targets"] >= 0).sum(dtype=jnp.float32))}


OBJECTIVE = Objective("completion", "completions", loss, next_token.measure)
