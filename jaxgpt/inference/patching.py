"""Activation patching: what of one run through a GPT-2, put into another run, changes the answer.

Meng et al. (2022), "Locating and Editing Factual Associations in GPT"; Wang et al. (2022), "Interpretability in the
Wild: a Circuit for Indirect Object Identification in GPT-2 small".
"""

import jax
import jax.numpy as jnp

from jaxgpt.inference.trace import Layers, Patch, trace
from jaxgpt.models.base import matmul_precision
from jaxgpt.models.gpt2 import GPT2

MEMORY_BYTES = 2**30  # of the passes that run side by side


@jax.jit
def patch_heads(model: GPT2, tokens: jax.Array, source: Layers, answers: jax.Array) -> jax.Array:
    """The logit difference after the last token when each head's output is replaced, float32 (L, H).

    Args:
      tokens: int (T,), the text.
      source: of another text of T tokens, from which the replacements are.
      answers: int (2,): the difference is the first one's logit minus the second one's.
    """
    L, T, H, _ = source.heads.shape
    heads = jnp.eye(L * H, dtype=bool).reshape(L * H, L, H)
    positions = jnp.zeros((L * H, L, T), bool)
    return _patched_differences(model, tokens, source, answers, heads, positions).reshape(L, H)


@jax.jit
def patch_positions(model: GPT2, tokens: jax.Array, source: Layers, answers: jax.Array) -> jax.Array:
    """As `patch_heads`, when the residual stream that a layer reads is replaced at one position, float32 (L, T)."""
    L, T, H, _ = source.heads.shape
    positions = jnp.eye(L * T, dtype=bool).reshape(L * T, L, T)
    heads = jnp.zeros((L * T, L, H), bool)
    return _patched_differences(model, tokens, source, answers, heads, positions).reshape(L, T)


def _patched_differences(
    model: GPT2, tokens: jax.Array, source: Layers, answers: jax.Array, heads: jax.Array, positions: jax.Array
) -> jax.Array:
    """The logit differences of N passes with the masks of Patch, (N, L, H) and (N, L, T); float32 (N,)."""
    T, C, H = len(tokens), model.config.n_embd, model.config.n_head
    pass_bytes = 4 * (3 * H * T**2 + 16 * T * C)  # attention, and the widest activations

    def difference(masks: tuple[jax.Array, jax.Array]) -> jax.Array:
        final, _ = trace(model, tokens, Patch(*masks, source.heads, source.residual))
        return logit_difference(model, final, answers)

    side_by_side = min(len(heads), max(1, MEMORY_BYTES // pass_bytes))
    return jax.lax.map(difference, (heads, positions), batch_size=side_by_side)


def logit_difference(model: GPT2, final: jax.Array, answers: jax.Array) -> jax.Array:
    """The first answer's logit minus the second one's after the last token, float32 (), of what ln_f reads, (T, C)."""
    with matmul_precision(model.config):
        logits = model.unembedding()[answers] @ model.ln_f(final[-1]).astype(jnp.float32)
    return logits[0] - logits[1]
