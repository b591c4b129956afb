"""Direct logit attribution: what each part of a GPT-2 adds to a logit by what it writes into the residual stream.

After Elhage et al. (2021), "A Mathematical Framework for Transformer Circuits".
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.inference.trace import Layers
from jaxgpt.models.gpt2 import GPT2


class Attribution(NamedTuple):
    """Shares of a logit, float32, which add up to it.

    Attributes:
      token, position: of the two embeddings, ().
      heads: of each head, (L, H).
      attention_biases: of the bias behind each layer's heads, (L,).
      mlps: of each perceptron, with its own biases, (L,).
      final_bias: of the last LayerNorm, ().
    """

    token: jax.Array
    position: jax.Array
    heads: jax.Array
    attention_biases: jax.Array
    mlps: jax.Array
    final_bias: jax.Array


def attribute_logit(
    model: GPT2, tokens: jax.Array, final: jax.Array, layers: Layers, position: jax.Array, answer: jax.Array
) -> Attribution:
    """Split the logit of a token after one of a text's tokens into what each part of the model adds to it.

    The logit is linear in the residual stream but for ln_f's division by the standard deviation; with that held at its
    value in this pass, the shares are exact.

    Args:
      tokens: int (T,), the text.
      final, layers: what trace.trace gives for it.
      position: int (), of the token.
      answer: int (), the id of the token that may follow.
    """
    L, _, H, D = layers.heads.shape
    with jax.default_matmul_precision("highest"):
        x = final[position].astype(jnp.float32)
        answer_row = model.unembedding()[answer]
        direction = model.ln_f.scale[...] * answer_row
        direction = (direction - direction.mean()) * jax.lax.rsqrt(x.var() + model.ln_f.epsilon)  # ln_f takes off means
        output = model.h.attn.c_proj.kernel[...].reshape(L, H, D, -1) @ direction  # (L, H, D)
        return Attribution(
            token=model.wte.embedding[tokens[position]] @ direction,
            position=model.wpe.embedding[position] @ direction,
            heads=(layers.heads[:, position].astype(jnp.float32) * output).sum(-1),
            attention_biases=model.h.attn.c_proj.bias[...] @ direction,
            mlps=layers.mlps[:, position].astype(jnp.float32) @ direction,
            final_bias=model.ln_f.bias[...] @ answer_row,
        )


def total(attribution: Attribution) -> jax.Array:
    """The sum of all shares, float32 ()."""
    return sum(share.sum() for share in attribution)
