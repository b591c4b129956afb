"""GPT-2, with Hugging Face's parameter names.

Radford et al. (2019), "Language Models are Unsupervised Multitask Learners".
Letters: B batch, T time, C embedding width, H heads, D head size, L layers, V vocabulary.
"""

import functools
import re
from collections.abc import Mapping
from typing import ClassVar, NamedTuple

import jax
import jax.numpy as jnp

from jaxgpt.models import kv_cache, layers
from jaxgpt.models.base import HuggingFaceTensors, matmul_precision, unembed
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.layers import (
    Module,
    Rngs,
    dropout,
    embedding,
    fold,
    in_float32_on_cpu,
    label_head,
    layer_keys,
    layer_norm,
    linear,
    remat,
    stack,
    unstack,
    vocabulary,
)
from jaxgpt.models.ops.attention import attention, first_visible_positions

__all__ = ["GPT2", "GPT2Config"]


class GPT2(Module):
    """GPT-2: token ids in, next-token logits out; with config.predict_tokens, logits of further tokens as well.

    The blocks of `h` are one Block whose parameters have a leading axis, and one scan runs them, rolled or unrolled as
    config.unroll has it. The module is a pytree that nothing changes after it is made.

    To predict n tokens (Gloeckle et al., 2024, "Better & Faster Large Language Models via Multi-token Prediction",
    section 2), n heads of one block each read what the trunk of L - n blocks makes, side by side. Head i predicts the
    token i places ahead; all share ln_f and the output matrix. The trunk and the block of head 1 are `h`: to predict
    the next token the model is an ordinary GPT-2 of L - n + 1 blocks. The blocks of the others are `extra_heads`.
    """

    STACKS = ("h", "extra_heads")
    KEEPS_COLUMNS = True
    FUSED: ClassVar[Mapping[str, int]] = {"c_attn": 3}

    def __init__(self, config: GPT2Config, key: jax.Array):
        rngs = Rngs(key)
        self.config = config
        self.wte = vocabulary(config, rngs)
        self.wpe = embedding(config.block_size, config.n_embd, rngs)
        self.h = stack(functools.partial(Block, config), config.depth, rngs)
        self.ln_f = layer_norm(config, rngs)
        if config.n_labels:
            self.score = label_head(config, rngs)
        if config.predict_tokens > 1:
            self.extra_heads = stack(functools.partial(Block, config), config.predict_tokens - 1, rngs)
        if config.untied_head:
            self.lm_head = vocabulary(config, rngs)

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

    def hidden(self, tokens: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the output matrix reads to predict the next token, (B, T, C); see base.Model."""
        x = self._run(self.h, tokens, positions, keys)
        with matmul_precision(self.config):
            return self.ln_f(x).reshape(*tokens.shape, -1)

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C), V padded."""
        return (self.lm_head if self.config.untied_head else self.wte).embedding[...]

    def trunk(self, idx: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the blocks of the heads read, (B*T, C); arguments of `hidden`."""
        return self._run(jax.tree.map(lambda leaf: leaf[:-1], self.h), idx, positions, keys)

    def heads(self) -> "Block":
        """The blocks of all heads, every leaf (n, ...)."""
        first_head = jax.tree.map(lambda leaf: leaf[-1:], self.h)
        if self.config.predict_tokens == 1:
            return first_head
        return jax.tree.map(lambda a, b: jnp.concatenate([a, b]), first_head, self.extra_heads)

    # ---- Decoding: each token is computed once, and later ones look its keys and values up

    def init_cache(self, B: int, length: int) -> "Cache":
        """The cache of B texts of up to `length` tokens."""
        config = self.config
        layer = functools.partial(kv_cache.empty, B, config.n_head, length, config.head_size, config.dtype)
        return Cache(tuple(layer() for _ in range(config.depth)), ())

    def decode(
        self, tokens: jax.Array, cache: "Cache", column: jax.Array, count: jax.Array | None = None
    ) -> tuple[jax.Array, "Cache"]:
        """What the output matrix reads at each of some tokens, and the cache with them; see base.Generative.

        `count` is not needed: no token sees what is written behind a text, and later writes replace it.
        """
        hidden, _, cache = self.decode_with_trunk(tokens, cache, column)
        return hidden, cache

    # ---- Speculation: the further heads draft tokens, which the next pass reads and the first head checks

    def init_draft_cache(self, B: int, length: int) -> "Cache":
        """As init_cache, with the keys and values of the further heads, and a column for a draft of each."""
        n_extra = self.config.predict_tokens - 1
        cache = self.init_cache(B, length + n_extra)
        return Cache(cache.layers, tuple(jax.tree.map(jnp.zeros_like, cache.layers[0]) for _ in range(n_extra)))

    def decode_with_trunk(
        self, tokens: jax.Array, cache: "Cache", column: jax.Array
    ) -> tuple[jax.Array, jax.Array, "Cache"]:
        """As `decode`; second, what the further heads read, (B, T, C)."""
        with matmul_precision(self.config):
            columns = kv_cache.columns_from(column, tokens.shape[1])
            x, new_layers = embed(self, tokens, jnp.minimum(columns, self.config.block_size - 1)), []  # (B, T, C)
            for block, layer in zip(unstack(self.h), cache.layers, strict=True):
                trunk, (x, layer) = x, decode_block(block, x, layer, column)
                new_layers.append(layer)
            return self.ln_f(x), trunk, Cache(tuple(new_layers), cache.heads)

    def draft(self, trunk: jax.Array, cache: "Cache", column: jax.Array, at: jax.Array) -> tuple[jax.Array, "Cache"]:
        """What the output matrix reads of each further head at one token of each text; see base.Speculative."""
        with matmul_precision(self.config):
            outputs, new_layers = [], []
            for block, head in zip(unstack(self.extra_heads), cache.heads, strict=True):
                x, head = decode_block(block, trunk, head, column, at)
                outputs.append(self.ln_f(x)[:, 0])
                new_layers.append(head)
            return jnp.stack(outputs), Cache(cache.layers, tuple(new_layers))

    def _run(self, blocks: "Block", idx: jax.Array, positions: jax.Array | None, keys: jax.Array | None) -> jax.Array:
        """The residual stream, (B*T, C), behind some of the blocks of h."""
        B, T = idx.shape
        if T > self.config.block_size:
            raise ValueError(f"{T} tokens are more than the model's block_size of {self.config.block_size}")
        with matmul_precision(self.config):
            first_visible = first_visible_positions(positions)
            x = embed(self, idx, jnp.arange(T)[None] if positions is None else positions)  # (B, T, C)
            # The stream is a matrix: of three axes, XLA on a GPU would pick an order that it must transpose again.
            x = dropout(x.reshape(B * T, -1), fold(keys, 0), self.config.dropout)
            run = remat(lambda x, layer: (layer[0](x, T, first_visible, layer[1]), None), self.config.remat)
            layers = len(jax.tree.leaves(blocks)[0])
            x, _ = jax.lax.scan(run, x, (blocks, layer_keys(keys, layers)), unroll=self.config.unroll)
            return x


class Cache(NamedTuple):
    """Keys and values of each layer up to the next token, and of each further head."""

    layers: tuple[kv_cache.KeysAndValues, ...]
    heads: tuple[kv_cache.KeysAndValues, ...]


class Block(Module):
    """Pre-LayerNorm transformer block: attention, then a perceptron, each added to the residual stream."""

    def __init__(self, config: GPT2Config, rngs: Rngs):
        self.dropout = config.dropout
        self.ln_1 = layer_norm(config, rngs)
        self.attn = Attention(config, rngs)
        self.ln_2 = layer_norm(config, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(
        self, x: jax.Array, T: int, first_visible: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        x = x + dropout(self.attn(self.ln_1(x), T, first_visible), fold(keys, 0), self.dropout)
        return x + dropout(self.mlp(self.ln_2(x)), fold(keys, 1), self.dropout)  # (B*T, C)


def decode_block(
    block: Block, x: jax.Array, cache: kv_cache.KeysAndValues, column: jax.Array, at: jax.Array | None = None
) -> tuple[jax.Array, kv_cache.KeysAndValues]:
    """A block's output, (B, T, C), and its cache with all T; with `at`, the output for that token alone, (B, 1, C)."""
    B, T, C = x.shape
    q, k, v = (z.swapaxes(1, 2) for z in block.attn.qkv(block.ln_1(x.reshape(B * T, C)), T))  # (B, H, T, D)
    keys, values = (kv_cache.write(old, new, column) for old, new in zip(cache, (k, v), strict=True))
    columns = kv_cache.columns_from(column, T)
    if at is not None:
        rows, columns = jnp.arange(B), jnp.broadcast_to(columns, (B, T))
        x, q, columns = x[rows, at][:, None], q[rows, :, at][:, :, None], columns[rows, at][:, None]
    y = kv_cache.attend(q, keys, values, columns).swapaxes(1, 2)  # (B, T, H, D)
    x, shape = x.reshape(-1, C), x.shape
    x = x + block.attn.c_proj(y.reshape(-1, C))
    x = x + block.mlp(block.ln_2(x))
    return x.reshape(shape), (keys, values)


class Attention(Module):
    """Causal self-attention with H heads."""

    def __init__(self, config: GPT2Config, rngs: Rngs):
        self.n_head = config.n_head
        self.implementation = config.attention
        self.c_attn = linear(config, "attn.c_attn", config.n_embd, 3 * config.n_embd, rngs)
        self.c_proj = linear(config, "attn.c_proj", config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array, T: int, first_visible: jax.Array | None = None) -> jax.Array:
        q, k, v = self.qkv(x, T)
        y = attention(q, k, v, first_visible, self.implementation)
        return self.c_proj(y.reshape(x.shape))

    def qkv(self, x: jax.Array, T: int) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, keys and values, each (B, T, H, D), of (B*T, C)."""
        D = x.shape[-1] // self.n_head
        return tuple(z.reshape(-1, T, self.n_head, D) for z in jnp.split(self.c_attn(x), 3, axis=-1))


class MLP(Module):
    """Four times wider, GELU in the tanh form, and back."""

    def __init__(self, config: GPT2Config, rngs: Rngs):
        self.c_fc = linear(config, "mlp.c_fc", config.n_embd, 4 * config.n_embd, rngs)
        self.c_proj = linear(config, "mlp.c_proj", 4 * config.n_embd, config.n_embd, rngs, residual=True)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        # Its derivative is cheaper to compute again from its input than to keep in memory: a checkpoint of its own.
        return self.c_proj(jax.checkpoint(gelu)(self.c_fc(x)))


def gelu(x: jax.Array) -> jax.Array:
    """GELU (Hendrycks & Gimpel, 2016) in the tanh form."""
    return in_float32_on_cpu(functools.partial(jax.nn.gelu, approximate=True), x)


def embed(model: GPT2, tokens: jax.Array, positions: jax.Array) -> jax.Array:
    """Token plus position embedding: int (B, T), and int (B, T) or (1, T), to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    return (model.wte(tokens) + model.wpe(positions)).astype(model.config.dtype)


# ---- Hugging Face's names

PREFIX, HEAD, SCORE = "transformer.", "lm_head.weight", "score.weight"


def hf_names(path: tuple, config: GPT2Config) -> list[str]:
    """What Hugging Face calls a leaf of GPT2, by its path in the tree: one name, or one for each layer of a stack.

    `.wpe.embedding.value` -> `transformer.wpe.weight`; `.h.ln_1.scale.value` -> `transformer.h.0.ln_1.weight`, ...
    """
    name = jax.tree_util.keystr(path).strip(".").removesuffix(".value")
    name = re.sub(r"\b(kernel|scale|embedding)$", "weight", name)
    name = name if name in (SCORE, HEAD) else PREFIX + name
    return [name.replace(".h.", f".h.{layer}.") for layer in range(config.n_layer)] if ".h." in name else [name]


MODEL, SHARDING_RULES = GPT2, layers.SHARDING_RULES
HUGGING_FACE = HuggingFaceTensors(
    names=hf_names,
    transposed=lambda path: path[0].name == "score",
    prefix=PREFIX,
    embedding=f"{PREFIX}wte.weight",
    head=HEAD,
    labels=SCORE,
    skipped=re.compile(r"h\.\d+\.attn\.(masked_)?bias"),
)
