"""Llama and its kin, Qwen2, Qwen3 and SmolLM2, with Hugging Face's parameter names.

Touvron et al. (2023), "LLaMA: Open and Efficient Foundation Language Models": RMSNorm (Zhang & Sennrich, 2019), rotary
positions (Su et al., 2021, "RoFormer"), SwiGLU (Shazeer, 2020). Grouped-query attention is Ainslie et al.'s (2023).
Qwen2 adds biases to queries, keys and values, Qwen3 norms of each head's queries and keys, Llama 3 a rescaling of RoPE.
Letters: B batch, T time, C embedding width, H heads, K heads of keys and values, D head size, L layers, V vocabulary.
"""

import functools
import re

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models import kv_cache, layers
from jaxgpt.models.base import HuggingFaceTensors, matmul_precision
from jaxgpt.models.configs import LlamaConfig
from jaxgpt.models.layers import (
    Module,
    Rngs,
    dropout,
    fold,
    in_float32_on_cpu,
    label_head,
    layer_keys,
    linear,
    remat,
    rms_norm,
    stack,
    unstack,
    vocabulary,
)
from jaxgpt.models.ops.attention import attention, first_visible_positions

Rotation = tuple[jax.Array, jax.Array]  # cosines and sines of each token's angles, float32 (B or 1, T, 1, D / 2)
Cache = tuple[kv_cache.KeysAndValues, ...]  # of each layer, with K heads


class Llama(Module):
    """Token ids in, what predicts the next token out; built as gpt2.GPT2 is, with its blocks stacked in `layers`."""

    STACKS = ("layers",)
    KEEPS_COLUMNS = True

    def __init__(self, config: LlamaConfig, key: jax.Array):
        rngs = Rngs(key)
        self.config = config
        self.embed_tokens = vocabulary(config, rngs)
        self.layers = stack(functools.partial(Block, config), config.n_layer, rngs)
        self.norm = rms_norm(config, config.n_embd, rngs)
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
            first_visible = first_visible_positions(positions)
            rotation = rotation_at(config, jnp.arange(T)[None] if positions is None else positions)
            x = dropout(embed(self, tokens).reshape(B * T, -1), fold(keys, 0), config.dropout)  # (B*T, C)
            run = remat(lambda x, layer: (layer[0](x, rotation, first_visible, layer[1]), None), config.remat)
            keys = layer_keys(keys, config.n_layer)
            x, _ = jax.lax.scan(run, x, (self.layers, keys), unroll=config.unroll)
            return self.norm(x).reshape(B, T, -1)

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C), V padded."""
        return (self.lm_head if self.config.untied_head else self.embed_tokens).embedding[...]

    # ---- Decoding: each token is computed once, and later ones look its keys and values up

    def init_cache(self, B: int, length: int) -> Cache:
        """The cache of B texts of up to `length` tokens; its keys are rotated."""
        config = self.config
        layer = functools.partial(kv_cache.empty, B, config.n_kv_head, length, config.head_size, config.dtype)
        return tuple(layer() for _ in range(config.n_layer))

    def decode(
        self, tokens: jax.Array, cache: Cache, column: jax.Array, count: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        """What the output matrix reads at each of some tokens, and the cache with them; see base.Generative.

        `count` is not needed: no token sees what is written behind a text, and later writes replace it.
        """
        B, T = tokens.shape
        with matmul_precision(self.config):
            rotation = rotation_at(self.config, kv_cache.columns_from(column, T))
            x, new_cache = embed(self, tokens).reshape(B * T, -1), []
            for block, layer in zip(unstack(self.layers), cache, strict=True):
                x, layer = block.decode(x, layer, rotation, column)
                new_cache.append(layer)
            return self.norm(x).reshape(B, T, -1), tuple(new_cache)


def embed(model: Llama, tokens: jax.Array) -> jax.Array:
    """Token embedding, int (B, T) to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    return model.embed_tokens(tokens).astype(model.config.dtype)


class Block(Module):
    """Attention, then a gated perceptron, each behind a norm and added to the residual stream."""

    def __init__(self, config: LlamaConfig, rngs: Rngs):
        self.dropout = config.dropout
        self.input_layernorm = rms_norm(config, config.n_embd, rngs)
        self.self_attn = Attention(config, rngs)
        self.post_attention_layernorm = rms_norm(config, config.n_embd, rngs)
        self.mlp = MLP(config, rngs)

    def __call__(
        self, x: jax.Array, rotation: Rotation, first_visible: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        y = self.self_attn(self.input_layernorm(x), rotation, first_visible)
        x = x + dropout(y, fold(keys, 0), self.dropout)
        return x + dropout(self.mlp(self.post_attention_layernorm(x)), fold(keys, 1), self.dropout)  # (B*T, C)

    def decode(
        self, x: jax.Array, cache: kv_cache.KeysAndValues, rotation: Rotation, column: jax.Array
    ) -> tuple[jax.Array, kv_cache.KeysAndValues]:
        """The same of the tokens of some columns, and the cache with them."""
        y, cache = self.self_attn.decode(self.input_layernorm(x), cache, rotation, column)
        x = x + y
        return x + self.mlp(self.post_attention_layernorm(x)), cache


class Attention(Module):
    """Causal self-attention with H heads, of which each H / K in a row share a head of keys and values."""

    def __init__(self, config: LlamaConfig, rngs: Rngs):
        C, D = config.n_embd, config.head_size
        self.head_size, self.qk_norm, self.implementation = D, config.qk_norm, config.attention
        project = functools.partial(linear, config, n_in=C, rngs=rngs, use_bias=config.qkv_bias)
        self.q_proj = project("q_proj", n_out=config.n_head * D)
        self.k_proj = project("k_proj", n_out=config.n_kv_head * D)
        self.v_proj = project("v_proj", n_out=config.n_kv_head * D)
        self.o_proj = linear(config, "o_proj", config.n_head * D, C, rngs, residual=True, use_bias=False)
        if config.qk_norm:
            self.q_norm, self.k_norm = rms_norm(config, D, rngs), rms_norm(config, D, rngs)

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array, rotation: Rotation, first_visible: jax.Array | None = None) -> jax.Array:
        y = attention(*self.qkv(x, rotation), first_visible, self.implementation)  # (B, T, H, D)
        return self.o_proj(y.reshape(x.shape[0], -1))

    def decode(
        self, x: jax.Array, cache: kv_cache.KeysAndValues, rotation: Rotation, column: jax.Array
    ) -> tuple[jax.Array, kv_cache.KeysAndValues]:
        """The same of the tokens of some columns, and the cache with them."""
        q, k, v = (z.swapaxes(1, 2) for z in self.qkv(x, rotation))  # (B, H or K, T, D)
        keys, values = (kv_cache.write(old, new, column) for old, new in zip(cache, (k, v), strict=True))
        (B, H, T, D), K = q.shape, k.shape[1]
        # The queries of the heads that share keys are one head's, H / K times as many.
        columns = jnp.tile(kv_cache.columns_from(column, T), (1, H // K))
        y = kv_cache.attend(q.reshape(B, K, -1, D), keys, values, columns).reshape(q.shape)
        return self.o_proj(y.swapaxes(1, 2).reshape(B * T, H * D)), (keys, values)

    def qkv(self, x: jax.Array, rotation: Rotation) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, (B, T, H, D), keys and values, (B, T, K, D), of (B*T, C); queries and keys are rotated."""
        T, D = rotation[0].shape[1], self.head_size
        q, k, v = (
            project(x).reshape(x.shape[0] // T, T, project.out_features // D, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        if self.qk_norm:
            q, k = self.q_norm(q), self.k_norm(k)
        return rotate(q, rotation), rotate(k, rotation), v


class MLP(Module):
    """SwiGLU: a layer that is gated by another's SiLU, and back."""

    def __init__(self, config: LlamaConfig, rngs: Rngs):
        C, width = config.n_embd, config.intermediate_size
        self.gate_proj = linear(config, "gate_proj", C, width, rngs, use_bias=False)
        self.up_proj = linear(config, "up_proj", C, width, rngs, use_bias=False)
        self.down_proj = linear(config, "down_proj", width, C, rngs, residual=True, use_bias=False)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        # Its derivative is cheaper to compute again from its inputs than to keep in memory: a checkpoint of its own.
        return self.down_proj(jax.checkpoint(swiglu)(self.gate_proj(x), self.up_proj(x)))


def swiglu(gate: jax.Array, up: jax.Array) -> jax.Array:
    return in_float32_on_cpu(lambda gate, up: jax.nn.silu(gate) * up, gate, up)


# ---- Rotary positions


def rotation_at(config: LlamaConfig, positions: jax.Array) -> Rotation:
    """By how much each pair of features is rotated at some positions, int (B or 1, T)."""
    angles = positions[:, :, None, None].astype(jnp.float32) * frequencies(config)[None, None, None]
    return jnp.cos(angles), jnp.sin(angles)


def frequencies(config: LlamaConfig) -> np.ndarray:
    """The angle between two positions of each pair of features, float32 (D / 2,).

    Llama 3.1 rescales them for longer texts: those of less than low_freq_factor turns in the original context are
    divided by factor, those of more than high_freq_factor stay, and between the two they go from one to the other.
    """
    D = config.head_size
    frequency = 1 / np.float32(config.rope_theta) ** (np.arange(0, D, 2, dtype=np.float32) / D)
    if config.rope_rescaling is None:
        return frequency
    factor, low, high, context = config.rope_rescaling
    turns = context * frequency / (2 * np.pi)
    stays = np.clip((turns - low) / (high - low), 0, 1)
    return ((1 - stays) * frequency / factor + stays * frequency).astype(np.float32)


def rotate(x: jax.Array, rotation: Rotation) -> jax.Array:
    """Rotate feature i with feature i + D / 2 (Hugging Face's pairs; the paper has 2i and 2i + 1), (B, T, heads, D)."""
    cos, sin = rotation
    a, b = jnp.split(x.astype(jnp.float32), 2, axis=-1)
    return jnp.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1).astype(x.dtype)


# ---- Hugging Face's names

PREFIX, HEAD, SCORE = "model.", "lm_head.weight", "score.weight"


def hf_names(path: tuple, config: LlamaConfig) -> list[str]:
    """What Hugging Face calls a leaf of Llama, by its path in the tree: one name, or one for each layer of a stack.

    `.norm.scale.value` -> `model.norm.weight`; `.layers.mlp.up_proj.kernel.value` -> that of layer 0,
    `model.layers.0.mlp.up_proj.weight`, ...
    """
    name = jax.tree_util.keystr(path).strip(".").removesuffix(".value")
    name = re.sub(r"\b(kernel|scale|embedding)$", "weight", name)
    if not name.startswith("layers."):
        return [name if name in (SCORE, HEAD) else PREFIX + name]
    return [PREFIX + name.replace("layers.", f"layers.{layer}.", 1) for layer in range(config.n_layer)]


MODEL, SHARDING_RULES = Llama, layers.SHARDING_RULES
HUGGING_FACE = HuggingFaceTensors(
    names=hf_names,
    transposed=lambda path: path[-2].name == "kernel",
    prefix=PREFIX,
    embedding=f"{PREFIX}embed_tokens.weight",
    head=HEAD,
    labels=SCORE,
    skipped=re.compile(r"layers\.\d+\.self_attn\.rotary_emb\.inv_freq"),
)
