"""A language model of gated convolutions, which sees a window of the past and needs no attention.

Dauphin et al. (2017), "Language Modeling with Gated Convolutional Networks" (arXiv 1612.08083). The paper's: a token
embedding and no positions; convolutions over time, padded with zeros on the left so that none sees a later token; the
gate, h(X) = (X*W + b) . sigmoid(X*V + c) (equation 1); residual blocks of three of them with a bottleneck, the middle
one over time (table 1, GCNN-14B). Not the paper's: a LayerNorm before each block and before the head, in place of
weight normalisation; the full softmax in place of the adaptive one, its matrix tied to the embedding unless
untied_head; dropout.
Letters: B batch, T time, C embedding width, b bottleneck width, k kernel size, L layers, V vocabulary.
"""

import functools
import math
from collections.abc import Mapping
from typing import ClassVar

import jax
import jax.numpy as jnp

from jaxgpt.models import layers
from jaxgpt.models.base import matmul_precision
from jaxgpt.models.configs import GatedCNNConfig
from jaxgpt.models.layers import (
    Linear,
    Module,
    Rngs,
    dropout,
    fold,
    in_float32_on_cpu,
    label_head,
    layer_keys,
    layer_norm,
    remat,
    stack,
    unstack,
    vocabulary,
)

Cache = tuple[jax.Array, ...]  # of each layer the last k - 1 inputs of its convolution, (B, k - 1, b)


class GatedCNN(Module):
    """Token ids in, what predicts the next token out; it sees the L * (k - 1) tokens before each, and that one."""

    STACKS = ("h",)
    FUSED: ClassVar[Mapping[str, int]] = {"narrow": 2, "conv": 2, "widen": 2}

    def __init__(self, config: GatedCNNConfig, key: jax.Array):
        rngs = Rngs(key)
        self.config = config
        self.wte = vocabulary(config, rngs)
        self.h = stack(functools.partial(Block, config), config.n_layer, rngs)
        self.ln_f = layer_norm(config, rngs)
        if config.n_labels:
            self.score = label_head(config, rngs)
        if config.untied_head:
            self.lm_head = vocabulary(config, rngs)

    def hidden(self, tokens: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the output matrix reads to predict the next token, (B, T, C); see base.Model."""
        (B, T), config = tokens.shape, self.config
        if T > config.block_size:
            raise ValueError(f"{T} tokens are more than the model's block_size of {config.block_size}")
        with matmul_precision(config):
            past = jnp.arange(T)[None] if positions is None else positions  # tokens of its document before each
            x = dropout(embed(self, tokens).reshape(B * T, -1), fold(keys, 0), config.dropout)  # (B*T, C)
            run = remat(lambda x, layer: (layer[0](x, past, layer[1]), None), config.remat)
            keys = layer_keys(keys, config.n_layer)
            x, _ = jax.lax.scan(run, x, (self.h, keys), unroll=config.unroll)
            return self.ln_f(x).reshape(B, T, -1)

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C), V padded."""
        return (self.lm_head if self.config.untied_head else self.wte).embedding[...]

    # ---- Decoding: a state of constant size

    def init_cache(self, B: int, length: int) -> Cache:
        """The windows of B texts; they are as large for texts of any length."""
        config = self.config
        window = jnp.zeros((B, config.kernel_size - 1, config.bottleneck), config.dtype)
        return (window,) * config.n_layer

    def decode(
        self, tokens: jax.Array, cache: Cache, column: jax.Array, count: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        """What the output matrix reads at each of some tokens, and the windows behind them; see base.Generative."""
        B, T = tokens.shape
        with matmul_precision(self.config):
            past = column.reshape(-1, 1) + jnp.arange(T)[None]  # (B, T) or (1, T)
            count = jnp.full(B, T) if count is None else count
            x, windows = embed(self, tokens).reshape(B * T, -1), []
            for block, window in zip(unstack(self.h), cache, strict=True):
                x, window = block.decode(x, window, past, count)
                windows.append(window)
            return self.ln_f(x).reshape(B, T, -1), tuple(windows)


def embed(model: GatedCNN, tokens: jax.Array) -> jax.Array:
    """Token embedding, int (B, T) to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    return model.wte(tokens).astype(model.config.dtype)


class Block(Module):
    """Three gated convolutions, which are added to the residual stream: narrower, over time, wider again."""

    def __init__(self, config: GatedCNNConfig, rngs: Rngs):
        C, b, k = config.n_embd, config.bottleneck, config.kernel_size
        self.kernel_size, self.dropout = k, config.dropout
        self.ln = layer_norm(config, rngs)
        self.narrow = gated_linear(C, b, rngs)
        self.conv = gated_linear(k * b, b, rngs)
        self.widen = gated_linear(b, C, rngs, gain=1 / math.sqrt(config.n_layer))

    def __call__(self, x: jax.Array, past: jax.Array, keys: jax.Array | None = None) -> jax.Array:
        """The residual stream behind the block, (B*T, C).

        Args:
          x: (B*T, C).
          past: int (B, T) or (1, T), how many tokens of its document stand before each.
          keys: (B,), of each sequence's dropout.
        """
        T = past.shape[1]
        u = glu(self.narrow(self.ln(x))).reshape(-1, T, self.widen.in_features)  # (B, T, b)
        u = jnp.pad(u, ((0, 0), (self.kernel_size - 1, 0), (0, 0)))
        return x + dropout(self._convolve(u, past), fold(keys, 0), self.dropout)

    def decode(self, x: jax.Array, window: jax.Array, past: jax.Array, count: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The same with the inputs before x, (B, k - 1, b); and those before the token behind the count-th of x."""
        T = past.shape[1]
        u = glu(self.narrow(self.ln(x))).reshape(-1, T, self.widen.in_features)
        u = jnp.concatenate([window, u], axis=1)  # (B, k - 1 + T, b)
        last = jax.vmap(lambda u, start: jax.lax.dynamic_slice_in_dim(u, start, self.kernel_size - 1))
        return x + self._convolve(u, past), last(u, count)

    @jax.named_scope("convolution")
    def _convolve(self, u: jax.Array, past: jax.Array) -> jax.Array:
        """What a block adds, (B*T, C), of the inputs of its convolution and the k - 1 before them, (B, k - 1 + T, b).

        A tap that reaches before the first token of a document gives 0, whatever stands there. The taps of a token side
        by side make the convolution one product, as fast on a CPU and a GPU as any.
        """
        T, k = past.shape[1], self.kernel_size
        taps = [jnp.where(past[:, :, None] >= k - 1 - j, u[:, j : j + T], 0) for j in range(k)]  # the oldest first
        windows = jnp.concatenate(taps, axis=-1).reshape(-1, k * u.shape[-1])  # (B*T, k*b)
        return glu(self.widen(glu(self.conv(windows))))


def gated_linear(n_in: int, n_out: int, rngs: Rngs, gain: float = 1.0) -> Linear:
    """The layer before a gate: X*W + b in the first n_out columns, X*V + c in the others.

    A gate lets half of it through at first: what comes in with variance 1 leaves with about gain ** 2 (as in Gehring et
    al., 2017, "Convolutional Sequence to Sequence Learning", section 3.5).
    """
    return Linear(n_in, 2 * n_out, std=2 * gain / math.sqrt(n_in), rngs=rngs)


def glu(x: jax.Array) -> jax.Array:
    """a . sigmoid(b) of [a, b] side by side, (N, 2 * n) to (N, n)."""

    def gate(x: jax.Array) -> jax.Array:
        a, b = jnp.split(x, 2, axis=-1)
        return a * jax.nn.sigmoid(b)

    # Its derivative is cheaper to compute again from its input than to keep in memory.
    return jax.checkpoint(functools.partial(in_float32_on_cpu, gate))(x)


MODEL, SHARDING_RULES = GatedCNN, layers.SHARDING_RULES
