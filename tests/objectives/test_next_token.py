"""The losses of single tokens, against float64 by hand; the loss itself is in tests/training/test_step.py."""

import jax
import numpy as np

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import next_token


def test_token_losses_are_those_of_the_logits_and_what_is_not_counted_has_none(tiny, batch):
    model = jax.tree.map(lambda leaf: 4 * leaf, GPT2(tiny, jax.random.key(1)))
    targets = np.array(batch["targets"])
    targets[0, 3] = targets[1, -2:] = -1
    losses = jax.jit(next_token.token_losses)(model, batch["tokens"], targets)
    logits = np.asarray(model(batch["tokens"]), np.float64)
    log_p = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
    expected = -np.take_along_axis(log_p, np.maximum(targets, 0)[..., None], -1)[..., 0] * (targets >= 0)
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    metrics = next_token.measure(model, {"tokens": batch["tokens"], "targets": targets})
    np.testing.assert_allclose(metrics["loss"], (expected.sum(), (targets >= 0).sum()), rtol=1e-6)
