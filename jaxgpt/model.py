"""GPT-2 as Flax NNX modules, with Hugging Face's parameter names.

Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
Letters: B batch, T time, C embedding width, H heads, D head size, L layers, V vocabulary.
"""

import contextlib
import math

import jax
import jax.numpy as jnp
from flax import nnx

from jaxgpt.config import GPT2Config

__all__ = ["GPT2", "GPT2Config"]


class GPT2(nnx.Module):
    """GPT-2: token ids in, next-token logits out.

    The L blocks are one Block whose parameters have a leading axis of length L, and one scan runs them: what XLA
    compiles does not grow with the depth. The module is a pytree that nothing changes after it is made.
    """

    def __init__(self, config: GPT2Config, key: jax.Array):
        rngs = nnx.Rngs(key)
        self.config = config
        self.wte = nnx.Embed(config.padded_vocab_size, config.n_embd, embedding_init=vocabulary(config), rngs=rngs)
        self.wpe = nnx.Embed(config.block_size, config.n_embd, embedding_init=normal(0.02), rngs=rngs)
        self.h = jax.vmap(lambda rngs: Block(config, rngs=rngs))(rngs.split(config.n_layer))  # every leaf (L, ...)
        self.ln_f = layer_norm(config, rngs)

    def __call__(self, idx: jax.Array) -> jax.Array:
        """Logits of the token that follows each position.

        Args:
          idx: int (B, T), T at most block_size.

        Returns:
          float32 (B, T, V), V padded. Position t sees the tokens up to t alone. Padded ids have logit -inf.
        """
        T = idx.shape[1]
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        with matmul_precision(self.config):
            x = embed(self, idx, jnp.arange(T)[None])  # (B, T, C)
            x, _ = jax.lax.scan(lambda x, block: (block(x), None), x, self.h, unroll=self.config.unroll)
            return unembed(self, x)


def embed(model: GPT2, idx: jax.Array, positions: jax.Array) -> jax.Array:
    """Token plus position embedding: int (B, T), and int (B, T) or (1, T), to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    return (model.wte(idx) + model.wpe(positions)).astype(model.config.dtype)


@jax.named_scope("head")
def unembed(model: GPT2, x: jax.Array) -> jax.Array:
    """Logits, float32 (..., V), of the residual stream (..., C). Tied: the output matrix is the token embedding."""
    logits = (model.ln_f(x) @ model.wte.embedding[...].T.astype(model.config.dtype)).astype(jnp.float32)
    if model.config.padded_vocab_size == model.config.vocab_size:
        return logits
    # Probability 0: for the loss and for a sampler the padded ids do not exist, and their rows get no gradient.
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jnp.where(ids < model.config.vocab_size, logits, -jnp.inf)


def with_config(model: GPT2, config: GPT2Config) -> GPT2:
    """The same weights in a model of another dtype, attention, unroll or padding of the vocabulary."""
    V, like = config.vocab_size, jax.eval_shape(lambda: GPT2(config, jax.random.key(0)))
    leaves = [
        leaf if leaf.shape == to.shape else jnp.pad(leaf[:V], ((0, to.shape[0] - V), (0, 0)))
        for leaf, to in zip(jax.tree.leaves(model), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def matmul_precision(config: GPT2Config) -> contextlib.AbstractContextManager:
    # float32 shall mean float32: without this, a GPU multiplies it in TF32.
    return jax.default_matmul_precision("highest" if config.dtype == "float32" else "default")


class Block(nnx.Module):
    """Pre-LayerNorm transformer block: attention, then a perceptron, each added to the residual stream."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.ln_1 = layer_norm(config, rngs)
        self.attn = Attention(config, rngs=rngs)
        self.ln_2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = x + self.attn(self.ln_1(x))
        return x + self.mlp(self.ln_2(x))  # (B, T, C)


class Attention(nnx.Module):
    """Causal self-attention with H heads."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.n_head = config.n_head
        self.implementation = config.attention
        self.c_attn = linear(config, config.n_embd, 3 * config.n_embd, rngs)
        self.c_proj = linear(config, config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array) -> jax.Array:
        y = jax.nn.dot_product_attention(*self.qkv(x), is_causal=True, implementation=self.implementation)
        return self.c_proj(y.reshape(x.shape))

    def qkv(self, x: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, each (B, T, H, D), of (B, T, C)."""
        B, T, C = x.shape
        q, k, v = jnp.split(self.c_attn(x), 3, axis=-1)  # (B, T, C) each
        return tuple(z.reshape(B, T, self.n_head, C // self.n_head) for z in (q, k, v))


class MLP(nnx.Module):
    """Four times wider, GELU in the tanh form, and back."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.c_fc = linear(config, config.n_embd, 4 * config.n_embd, rngs)
        self.c_proj = linear(config, 4 * config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.c_proj(jax.nn.gelu(self.c_fc(x), approximate=True))


# Flax's own defaults are not GPT-2's: initializers, LayerNorm's epsilon and its one-pass variance are set here by hand.


def normal(std: float) -> nnx.Initializer:
    return nnx.initializers.normal(std)


def vocabulary(config: GPT2Config) -> nnx.Initializer:
    # The rows of the padding are 0 and stay 0. The others are drawn as if they were alone: padding changes no weight.
    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
        rows = normal(0.02)(key, (config.vocab_size, shape[1]), dtype)
        return jnp.pad(rows, ((0, shape[0] - config.vocab_size), (0, 0)))

    return init


def linear(config: GPT2Config, n_in: int, n_out: int, rngs: nnx.Rngs, residual: bool = False) -> nnx.Linear:
    # 2L projections add to the residual stream; this keeps its variance at init independent of the depth (section 2.3).
    std = 0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02
    return nnx.Linear(n_in, n_out, kernel_init=normal(std), dtype=jnp.dtype(config.dtype), rngs=rngs)


def layer_norm(config: GPT2Config, rngs: nnx.Rngs) -> nnx.LayerNorm:
    dtype = jnp.dtype(config.dtype)
    return nnx.LayerNorm(config.n_embd, epsilon=1e-5, use_fast_variance=False, dtype=dtype, rngs=rngs)
