"""A forward pass of a GPT-2 that returns what happens inside, and in which activations can be replaced.

It computes what `gpt2.GPT2` computes, from the same layers, for one text.
Letters: T tokens, C width, H heads, D head size, L layers, V vocabulary.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.models.base import matmul_precision, next_token_logits
from jaxgpt.models.gpt2 import GPT2, embed
from jaxgpt.models.ops.attention import visible
from jaxgpt.models.ops.matmul import product, transposed


class Layers(NamedTuple):
    """What each block reads and computes.

    Attributes:
      residual: (L, T, C), the residual stream that the block reads.
      attention: float32 (L, H, T, T), how much each token (third axis) attends to each one (last axis).
      heads: (L, T, H, D), each head's output: the values, weighted by attention; the projection c_proj comes next.
      mlps: (L, T, C), what the perceptron adds to the stream.
    """

    residual: jax.Array
    attention: jax.Array
    heads: jax.Array
    mlps: jax.Array


class Patch(NamedTuple):
    """Activations to replace, where the masks are true, by these others.

    Attributes:
      heads: bool (L, H), heads' outputs, of all tokens, by `head_outputs`, (L, T, H, D).
      positions: bool (L, T), the residual stream that a block reads by `residual`, (L, T, C).
    """

    heads: jax.Array
    positions: jax.Array
    head_outputs: jax.Array
    residual: jax.Array


def trace(model: GPT2, tokens: jax.Array, patch: Patch | None = None) -> tuple[jax.Array, Layers]:
    """Run a text through the model.

    Args:
      tokens: int (T,), T at most block_size.
      patch: what to replace on the way; None: nothing.

    Returns:
      What ln_f reads, (T, C), and what each block does.
    """
    T, H, D = len(tokens), model.config.n_head, model.config.head_size
    if T > model.config.block_size:
        raise ValueError(f"{T} tokens are more than the model's block_size of {model.config.block_size}")

    def run(x: jax.Array, layer: tuple) -> tuple[jax.Array, Layers]:
        block, patch = layer
        if patch:
            x = jnp.where(patch.positions[:, None], patch.residual, x)
        # In xla_attention's own shapes: in others, XLA on a CPU adds up in another order.
        q, k, v = (z.swapaxes(1, 2).reshape(H, T, D) for z in block.attn.qkv(block.ln_1(x), T))
        scores = product(q, transposed(k), jnp.float32) / math.sqrt(D)
        attention = jax.nn.softmax(jnp.where(visible(T, None), scores, -jnp.inf))
        heads = product(attention.astype(v.dtype), v).astype(v.dtype)
        heads = heads.reshape(1, H, T, D).swapaxes(1, 2)[0]  # (T, H, D)
        if patch:
            heads = jnp.where(patch.heads[:, None], patch.head_outputs, heads)
        middle = x + block.attn.c_proj(heads.reshape(x.shape))
        mlp = block.mlp(block.ln_2(middle))
        return middle + mlp, Layers(x, attention, heads, mlp)

    with matmul_precision(model.config):
        x = embed(model, tokens[None], jnp.arange(T)[None])[0]
        return jax.lax.scan(run, x, (model.h, patch))


def logits_of(model: GPT2, x: jax.Array) -> jax.Array:
    """Logits, float32 (T, V) without padding, of a residual stream, (T, C), as if it were the last layer's.

    The logit lens (nostalgebraist, 2020, "interpreting GPT: the logit lens"), with ln_f's scale of this very stream.
    """
    with matmul_precision(model.config):
        return next_token_logits(model, model.ln_f(x))


@functools.partial(jax.jit, static_argnames="k")
def apply_lens(model: GPT2, streams: jax.Array, k: int) -> tuple[jax.Array, jax.Array]:
    """The k tokens that each layer's stream makes likeliest to follow each token, and their probabilities.

    One layer's logits are in memory at a time.

    Args:
      streams: (N, T, C).

    Returns:
      Ids, int32 (N, T, k), and float32 (N, T, k), the likeliest first.
    """

    def top(x: jax.Array) -> tuple[jax.Array, jax.Array]:
        probabilities, ids = jax.lax.top_k(jax.nn.softmax(logits_of(model, x)), k)
        return ids, probabilities

    return jax.lax.map(top, streams)
