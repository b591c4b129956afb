"""Activation patching, against the model on other texts and against one pass at a time."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.inference import patching
from jaxgpt.inference.patching import logit_difference, patch_heads, patch_positions
from jaxgpt.inference.trace import Patch, trace
from tests.support.head_scores import make_model
from tests.support.models import forward

T, PAIR = 6, jnp.array([5, 60])


def test_what_is_patched_changes_the_answer_as_one_pass_for_each_does(monkeypatch):
    model, texts = make_model(), jax.random.randint(jax.random.key(4), (2, T), 0, 97)
    run = jax.jit(trace)
    final, _ = run(model, texts[0])
    other_final, other = run(model, texts[1])
    logits = forward(model, texts)[:, -1]
    for i, each in enumerate((final, other_final)):
        assert abs(logit_difference(model, each, PAIR) - (logits[i, 5] - logits[i, 60])) < 1e-5
    heads, positions = (patch(model, texts[0], other, PAIR) for patch in (patch_heads, patch_positions))
    assert heads.shape == (2, 4) and positions.shape == (2, T)
    # The stream that the first layer reads at a token is the token: its replacement is another text.
    changed = jnp.where(jnp.eye(T, dtype=bool), texts[1], texts[0])
    logits = forward(model, changed)[:, -1]
    assert np.allclose(positions[0], logits[:, 5] - logits[:, 60], atol=1e-5)
    for layer, head in ((0, 3), (1, 2)):
        mask = jnp.zeros((2, 4), bool).at[layer, head].set(True)
        one, _ = run(model, texts[0], Patch(mask, jnp.zeros((2, T), bool), other.heads, other.residual))
        assert abs(heads[layer, head] - logit_difference(model, one, PAIR)) < 1e-5
    assert jnp.abs(heads - logit_difference(model, final, PAIR)).min() > 1e-4  # each does something

    monkeypatch.setattr(patching, "MEMORY_BYTES", 3 * 4 * (3 * 4 * T**2 + 16 * T * 32))  # three passes at a time
    assert np.allclose(jax.jit(patch_heads.__wrapped__)(model, texts[0], other, PAIR), heads, atol=1e-5)
