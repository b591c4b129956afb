"""GPT-2 as Flax NNX modules, with Hugging Face's parameter names.

Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
Letters: B batch, T time, C embedding width, H heads, D head size, L layers, V vocabulary.
"""

import contextlib
import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx
from jax.ad_checkpoint import checkpoint_name

from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.ops.attention import causal_attention, visible
from jaxgpt.models.ops.matmul import add_bias, matmul

__all__ = ["GPT2", "GPT2Config"]


class GPT2(nnx.Module):
    """GPT-2: token ids in, next-token logits out; with config.predict_tokens, logits of further tokens as well.

    The blocks of `h` are one Block whose parameters have a leading axis, and one scan runs them, rolled or unrolled as
    config.unroll has it. The module is a pytree that nothing changes after it is made.

    To predict n tokens (Gloeckle et al., 2024, "Better & Faster Large Language Models via Multi-token Prediction",
    section 2), n heads of one block each read what the trunk of L - n blocks makes, side by side. Head i predicts the
    token i places ahead; all share ln_f and the output matrix. The trunk and the block of head 1 are `h`: to predict
    the next token the model is an ordinary GPT-2 of L - n + 1 blocks. The blocks of the others are `extra_heads`.
    """

    def __init__(self, config: GPT2Config, key: jax.Array):
        rngs = nnx.Rngs(key)
        self.config = config
        self.wte = nnx.Embed(config.padded_vocab_size, config.n_embd, embedding_init=vocabulary(config), rngs=rngs)
        self.wpe = nnx.Embed(config.block_size, config.n_embd, embedding_init=normal(0.02), rngs=rngs)
        self.h = stack(config, config.depth, rngs)
        self.ln_f = layer_norm(config, rngs)
        if config.n_labels:
            self.score = nnx.Linear(config.n_embd, config.n_labels, use_bias=False, kernel_init=normal(0.02), rngs=rngs)
        if config.predict_tokens > 1:
            self.extra_heads = stack(config, config.predict_tokens - 1, rngs)
        if config.untied_head:
            shape = config.padded_vocab_size, config.n_embd
            self.lm_head = nnx.Embed(*shape, embedding_init=vocabulary(config), rngs=rngs)

    def __call__(self, idx: jax.Array) -> jax.Array:
        """Logits of the token that follows each position.

        Args:
          idx: int (B, T), T at most block_size.

        Returns:
          float32 (B, T, V), V padded. Position t sees the tokens up to t alone. Padded ids have logit -inf.
        """
        with matmul_precision(self.config):
            return unembed(self, self.hidden(idx))

    def all_heads(self, idx: jax.Array) -> jax.Array:
        """Logits of the n tokens that follow each position, float32 (n, B, T, V); else as the call."""
        x, T = self.trunk(idx), idx.shape[1]

        def head(_: None, block: Block) -> tuple[None, jax.Array]:
            return None, unembed(self, self.ln_f(block(x, T)).reshape(*idx.shape, -1))

        with matmul_precision(self.config):
            return jax.lax.scan(head, None, self.heads())[1]

    def hidden(self, idx: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the output matrix reads to predict the next token, (B, T, C).

        Args:
          idx: int (B, T), T at most block_size.
          positions: int (B, T), where each token stands in its own document, of which a sequence may hold several, one
            after the other; none sees another. None: each sequence is one document.
          keys: (B,), of each sequence's dropout; None: no dropout, as outside of training.
        """
        x = self._run(self.h, idx, positions, keys)
        with matmul_precision(self.config):
            return self.ln_f(x).reshape(*idx.shape, -1)

    def trunk(self, idx: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the blocks of the heads read, (B*T, C); arguments of `hidden`."""
        return self._run(jax.tree.map(lambda leaf: leaf[:-1], self.h), idx, positions, keys)

    def heads(self) -> "Block":
        """The blocks of all heads, every leaf (n, ...)."""
        first = jax.tree.map(lambda leaf: leaf[-1:], self.h)
        if self.config.predict_tokens == 1:
            return first
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first, self.extra_heads)

    def _run(self, blocks: "Block", idx: jax.Array, positions: jax.Array | None, keys: jax.Array | None) -> jax.Array:
        """The residual stream, (B*T, C), behind some of the blocks of h."""
        B, T = idx.shape
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        with matmul_precision(self.config):
            first = first_seen(positions)
            x = embed(self, idx, jnp.arange(T)[None] if positions is None else positions)  # (B, T, C)
            # The stream is a matrix: of three axes, XLA on a GPU would pick an order that it must transpose again.
            x = dropout(x.reshape(B * T, -1), fold(keys, 0), self.config.dropout)
            run = remat(lambda x, layer: (layer[0](x, T, first, layer[1]), None), self.config.remat)
            layers = len(jax.tree.leaves(blocks)[0])
            x, _ = jax.lax.scan(run, x, (blocks, by_layer(keys, layers)), unroll=self.config.unroll)
            return x


def first_seen(positions: jax.Array | None) -> jax.Array | None:
    """The first position that each one sees, int (B, T), of where each token stands in its document."""
    return None if positions is None else jnp.arange(positions.shape[1])[None] - positions


def stack(config: GPT2Config, count: int, rngs: nnx.Rngs) -> "Block":
    """So many blocks as one, every leaf (count, ...)."""
    return jax.vmap(lambda rngs: Block(config, rngs=rngs))(rngs.split(count))


def unembedding(model: GPT2) -> jax.Array:
    """The output matrix, float32 (V, C), V padded."""
    return (model.lm_head if model.config.untied_head else model.wte).embedding[...]


def dropout(x: jax.Array, keys: jax.Array | None, rate: float) -> jax.Array:
    """x, (B*T, C), with a share of `rate` set to 0 and the rest scaled up (Srivastava et al., 2014); without keys, x.

    A sequence has a key of its own, (B,), so that its mask is the same on any device and in any part of a batch.
    """
    if keys is None or rate == 0:
        return x
    shape = (x.shape[0] // keys.shape[0], x.shape[1])
    kept = jax.vmap(lambda key: jax.random.bernoulli(key, 1 - rate, shape))(keys).reshape(x.shape)
    return jnp.where(kept, x / (1 - rate), 0).astype(x.dtype)


def fold(keys: jax.Array | None, number: jax.typing.ArrayLike) -> jax.Array | None:
    """New keys, one for each of these, (B,)."""
    return None if keys is None else jax.vmap(lambda key: jax.random.fold_in(key, number))(keys)


def by_layer(keys: jax.Array | None, n_layer: int) -> jax.Array | None:
    """Keys of every layer, (L, B)."""
    return None if keys is None else jax.vmap(lambda layer: fold(keys, layer))(jnp.arange(1, n_layer + 1))


def embed(model: GPT2, idx: jax.Array, positions: jax.Array) -> jax.Array:
    """Token plus position embedding: int (B, T), and int (B, T) or (1, T), to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    return (model.wte(idx) + model.wpe(positions)).astype(model.config.dtype)


@jax.named_scope("head")
def unembed(model: GPT2, x: jax.Array) -> jax.Array:
    """Logits, float32 (..., V), of what the output matrix reads, (..., C)."""
    logits = (x @ unembedding(model).T.astype(x.dtype)).astype(jnp.float32)
    if model.config.padded_vocab_size == model.config.vocab_size:
        return logits
    # Probability 0: for the loss and for a sampler the padded ids do not exist, and their rows get no gradient.
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jnp.where(ids < model.config.vocab_size, logits, -jnp.inf)


def matmul_precision(config: GPT2Config) -> contextlib.AbstractContextManager:
    # float32 shall mean float32: without this, a GPU multiplies it in TF32.
    return jax.default_matmul_precision("highest" if config.dtype == "float32" else "default")


def remat(run: Callable, what: str) -> Callable:
    """`run` that keeps for the backward pass what it likes, its linear layers' outputs ("dots") or its input ("full").

    What is not kept is computed again (Chen et al., 2016, "Training Deep Nets with Sublinear Memory Cost").
    """
    if what == "none":
        return run
    linear = jax.checkpoint_policies.save_only_these_names("linear")
    return jax.checkpoint(lambda *x: run(*_layer_by_layer(x)), policy=linear if what == "dots" else None)


@jax.custom_vjp
def _layer_by_layer(x: Any) -> Any:
    """x; its gradients are finished before those of the layers below begin.

    With many GPUs XLA would put off the weights' gradients, to have products beside the sums over the devices, and keep
    all that was computed again for them.
    """
    return x


_layer_by_layer.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.optimization_barrier(g),))


class Block(nnx.Module):
    """Pre-LayerNorm transformer block: attention, then a perceptron, each added to the residual stream."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.dropout = config.dropout
        self.ln_1 = layer_norm(config, rngs)
        self.attn = Attention(config, rngs=rngs)
        self.ln_2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs=rngs)

    def __call__(
        self, x: jax.Array, T: int, first: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        x = x + dropout(self.attn(self.ln_1(x), T, first), fold(keys, 0), self.dropout)
        return x + dropout(self.mlp(self.ln_2(x)), fold(keys, 1), self.dropout)  # (B*T, C)


class Attention(nnx.Module):
    """Causal self-attention with H heads."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.n_head = config.n_head
        self.implementation = config.attention
        self.c_attn = Linear(config, "attn.c_attn", config.n_embd, 3 * config.n_embd, rngs)
        self.c_proj = Linear(config, "attn.c_proj", config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array, T: int, first: jax.Array | None = None) -> jax.Array:
        q, k, v = self.qkv(x, T)
        if self.implementation == "cudnn":
            mask = None if first is None else visible(T, first)[:, None]  # (B, 1, T, T)
            y = jax.nn.dot_product_attention(q, k, v, mask=mask, is_causal=True, implementation="cudnn")
        else:
            y = causal_attention(q, k, v, first)
        return self.c_proj(y.reshape(x.shape))

    def qkv(self, x: jax.Array, T: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, each (B, T, H, D), of (B*T, C)."""
        D = x.shape[-1] // self.n_head
        return tuple(z.reshape(-1, T, self.n_head, D) for z in jnp.split(self.c_attn(x), 3, axis=-1))


class MLP(nnx.Module):
    """Four times wider, GELU in the tanh form, and back."""

    def __init__(self, config: GPT2Config, *, rngs: nnx.Rngs):
        self.c_fc = Linear(config, "mlp.c_fc", config.n_embd, 4 * config.n_embd, rngs)
        self.c_proj = Linear(config, "mlp.c_proj", 4 * config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        # Its derivative is cheaper to compute again from its input than to keep in memory: a checkpoint of its own.
        return self.c_proj(jax.checkpoint(gelu)(self.c_fc(x)))


def gelu(x: jax.Array) -> jax.Array:
    """GELU (Hendrycks & Gimpel, 2016) in the tanh form."""
    tanh_form = functools.partial(jax.nn.gelu, approximate=True)
    if x.dtype == jnp.float32:
        return tanh_form(x)
    # A CPU would round after each operation, which takes most of the time; a GPU does this at the end of a product.
    return jax.lax.platform_dependent(
        x, cpu=lambda x: tanh_form(x.astype(jnp.float32)).astype(x.dtype), default=tanh_form
    )


class Linear(nnx.Linear):
    """x @ kernel + bias in x's dtype; with an adapter, + scale * (x @ lora_a) @ lora_b (LoRA, Hu et al., 2022, 4.1)."""

    def __init__(self, config: GPT2Config, name: str, n_in: int, n_out: int, rngs: nnx.Rngs, residual: bool = False):
        # 2L projections add to the residual stream; this keeps its variance at init independent of the depth
        # (section 2.3).
        std = 0.02 / math.sqrt(2 * config.depth) if residual else 0.02
        super().__init__(n_in, n_out, kernel_init=normal(std), rngs=rngs)
        self.scale = config.lora_alpha / config.lora if config.adapts(name) else 0.0
        if self.scale:  # lora_b is 0, so that at the beginning the adapter adds nothing
            self.lora_a = nnx.Param(uniform(rngs.params(), (n_in, config.lora)))
            self.lora_b = nnx.Param(jnp.zeros((config.lora, n_out)))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = add_bias(matmul(x, self.kernel[...]), self.bias[...])
        if self.scale:
            y = y + (self.scale * matmul(matmul(x, self.lora_a[...]), self.lora_b[...])).astype(y.dtype)
        return checkpoint_name(y, "linear")


def uniform(key: jax.Array, shape: tuple[int, int]) -> jax.Array:
    """Between -1 and 1 over the root of the number of inputs, as LoRA's authors have it."""
    return jax.random.uniform(key, shape, minval=-1, maxval=1) / math.sqrt(shape[0])


# Flax's own defaults are not GPT-2's: initializers, LayerNorm's epsilon and its one-pass variance are set here by hand.


def normal(std: float) -> nnx.Initializer:
    return nnx.initializers.normal(std)


def vocabulary(config: GPT2Config) -> nnx.Initializer:
    # The rows of the padding are 0 and stay 0. The others are drawn as if they were alone: padding changes no weight.
    def init(key: jax.Array, shape: tuple[int, int], dtype: jnp.dtype) -> jax.Array:
        rows = normal(0.02)(key, (config.vocab_size, shape[1]), dtype)
        return jnp.pad(rows, ((0, shape[0] - config.vocab_size), (0, 0)))

    return init


def layer_norm(config: GPT2Config, rngs: nnx.Rngs) -> nnx.LayerNorm:
    dtype = jnp.dtype(config.dtype)
    return nnx.LayerNorm(config.n_embd, epsilon=1e-5, use_fast_variance=False, dtype=dtype, rngs=rngs)
