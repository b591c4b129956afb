"""Griffin: gated linear recurrences with local attention between them, and Hawk, which has no attention.

De et al. (2024), "Griffin: Mixing Gated Linear Recurrences with Local Attention for Efficient Language Models" (arXiv
2402.19427): recurrence.py in some layers, attention to a window with one head of keys and values in the others, a
gated-GELU perceptron in each. RecurrentGemma's (Botev et al., 2024) are the embedding's scale, the biases, the soft cap
of the logits and, by Hugging Face, the parameters' names.
Letters: B batch, T time, C embedding width, H heads, K heads of keys and values, D head size, S former tokens of a
window, L layers, V vocabulary; those of recurrence.py.
"""

import functools
import re
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models import layers
from jaxgpt.models.base import HuggingFaceTensors, matmul_precision
from jaxgpt.models.configs import GriffinConfig
from jaxgpt.models.layers import (
    Module,
    Param,
    Rngs,
    dropout,
    fold,
    label_head,
    layer_keys,
    linear,
    remat,
    stack,
    unstack,
    vocabulary,
)
from jaxgpt.models.llama import rotate
from jaxgpt.models.ops.attention import attention
from jaxgpt.models.recurrence import Recurrence, gated, slices

State = tuple[jax.Array, jax.Array]  # as recurrence.State, or the last keys and values of attention, (B, S, K, D)
Cache = tuple[State, ...]  # of each layer


class Griffin(Module):
    """Token ids in, what predicts the next token out; its layers are two stacks, interleaved by config.pattern."""

    STACKS = ("recurrent", "attention")

    def __init__(self, config: GriffinConfig, key: jax.Array):
        rngs = Rngs(key)
        self.config = config
        self.embed_tokens = vocabulary(config, rngs)
        if n_recurrent := config.kinds.count("r"):
            self.recurrent = stack(functools.partial(Block, config, Recurrence), n_recurrent, rngs)
        if n_attention := config.kinds.count("a"):
            self.attention = stack(functools.partial(Block, config, Attention), n_attention, rngs)
        self.final_norm = RMSNorm(config, rngs)
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
            first_visible = None  # of a token, by attention
            if positions is not None or T > config.window:
                first_visible = jnp.arange(T)[None] - jnp.minimum(jnp.broadcast_to(past, (B, T)), config.window - 1)
            run = remat(lambda x, block, keys: block(x, past, first_visible, keys), config.remat)
            x = dropout(embed(self, tokens).reshape(B * T, -1), fold(keys, 0), config.dropout)  # (B*T, C)
            x = run_layers(self, run, x, layer_keys(keys, config.n_layer))
            return self.final_norm(x).reshape(B, T, -1)

    def stacks(self) -> dict[str, Any]:
        """The stacks that there are, by the letters of a pattern."""
        return {kind: getattr(self, name) for kind, name in STACK_OF.items() if hasattr(self, name)}

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C), V padded."""
        return (self.lm_head if self.config.untied_head else self.embed_tokens).embedding[...]

    # ---- Decoding: a state of constant size

    def init_cache(self, B: int, length: int) -> Cache:
        """The states of B texts; of attention it is smaller where texts are shorter than its window."""
        config, dtype = self.config, self.config.dtype
        window = jnp.zeros((B, config.conv_width - 1, config.lru_width), dtype)
        keys = jnp.zeros((B, min(config.window, length) - 1, config.n_kv_head, config.head_size), dtype)
        states = {"r": (jnp.zeros((B, config.lru_width)), window), "a": (keys, keys)}
        return tuple(states[kind] for kind in config.kinds)

    def decode(
        self, tokens: jax.Array, cache: Cache, column: jax.Array, count: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        """What the output matrix reads at each of some tokens, and the states behind them; see base.Generative."""
        B, T = tokens.shape
        with matmul_precision(self.config):
            past = column.reshape(-1, 1) + jnp.arange(T)[None]  # (B, T) or (1, T)
            count = jnp.full(B, T) if count is None else count
            x, states = embed(self, tokens).reshape(B * T, -1), []
            for block, state in zip(in_order(self.config.kinds, self.stacks()), cache, strict=True):
                x, state = block.decode(x, state, past, count)
                states.append(state)
            return self.final_norm(x).reshape(B, T, -1), tuple(states)


STACK_OF = {"r": "recurrent", "a": "attention"}  # by the letters of a pattern


def in_order(kinds: str, stacks: dict[str, Any]) -> Iterator["Block"]:
    """The layers of the stacks, each the next one of the stack that its letter names."""
    layers_of = {kind: iter(unstack(each)) for kind, each in stacks.items()}
    return (next(layers_of[kind]) for kind in kinds)


def run_layers(model: Griffin, run: Callable[..., jax.Array], x: jax.Array, keys: jax.Array | None = None) -> jax.Array:
    """The residual stream behind all layers: a scan over whole patterns, then the layers that are left over.

    Args:
      run: (x, block, keys) to the residual stream behind a block.
      keys: of each layer, (L, B).
    """
    pattern, count = model.config.pattern, model.config.n_layer // len(model.config.pattern)

    def run_some(x: jax.Array, kinds: str, stacks: dict[str, Any], keys: jax.Array | None) -> jax.Array:
        for i, block in enumerate(in_order(kinds, stacks)):
            x = run(x, block, None if keys is None else keys[i])
        return x

    def run_group(x: jax.Array, group: tuple[dict[str, Any], jax.Array | None]) -> tuple[jax.Array, None]:
        return run_some(x, pattern, *group), None

    parts = {kind: split(each, count, pattern.count(kind)) for kind, each in model.stacks().items()}
    groups, rest = ({kind: part[i] for kind, part in parts.items()} for i in (0, 1))
    group_keys, rest_keys = split(keys, count, len(pattern))
    if count:
        x, _ = jax.lax.scan(run_group, x, (groups, group_keys), unroll=max(1, model.config.unroll // len(pattern)))
    return run_some(x, model.config.kinds[count * len(pattern) :], rest, rest_keys)


def split(tree: Any, count: int, n: int) -> tuple[Any, Any]:
    """The first layers of a stack in `count` groups of n, every leaf (count, n, ...), and the layers behind them."""
    groups = jax.tree.map(lambda leaf: leaf[: count * n].reshape(count, n, *leaf.shape[1:]), tree)
    return groups, jax.tree.map(lambda leaf: leaf[count * n :], tree)


def embed(model: Griffin, tokens: jax.Array) -> jax.Array:
    """Token embedding times the root of C, which RecurrentGemma has in bfloat16: int (B, T) to (B, T, C)."""
    # The gather is from the float32 table, so that its gradient is summed in float32.
    dtype = model.config.dtype
    return model.embed_tokens(tokens).astype(dtype) * jnp.bfloat16(model.config.n_embd**0.5).astype(dtype)


class Block(Module):
    """A recurrence or attention, then a gated perceptron, each behind a norm and added to the residual stream."""

    def __init__(self, config: GriffinConfig, kind: type["Recurrence"] | type["Attention"], rngs: Rngs):
        self.dropout = config.dropout
        self.temporal_pre_norm = RMSNorm(config, rngs)
        self.temporal_block = kind(config, rngs)
        self.channel_pre_norm = RMSNorm(config, rngs)
        self.mlp_block = MLP(config, rngs)

    def __call__(
        self, x: jax.Array, past: jax.Array, first_visible: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        """The residual stream behind the block, (B*T, C).

        Args:
          x: (B*T, C).
          past: int (B, T) or (1, T), how many tokens of its document stand before each.
          first_visible: int (B, T), the first position in the sequence that attention sees at each; None: 0.
          keys: (B,), of each sequence's dropout.
        """
        y = self.temporal_block(self.temporal_pre_norm(x), past, first_visible)
        x = x + dropout(y, fold(keys, 0), self.dropout)
        return x + dropout(self.mlp_block(self.channel_pre_norm(x)), fold(keys, 1), self.dropout)

    def decode(self, x: jax.Array, state: State, past: jax.Array, count: jax.Array) -> tuple[jax.Array, State]:
        """The same from the state before x; and the state before the token behind the count-th of x, int (B,)."""
        y, state = self.temporal_block.decode(self.temporal_pre_norm(x), state, past, count)
        x = x + y
        return x + self.mlp_block(self.channel_pre_norm(x)), state


class RMSNorm(Module):
    """x, (N, C), over the root of its mean square, times 1 + scale, all in float32 (Zhang & Sennrich, 2019)."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        self.eps = config.norm_eps
        self.scale = Param(jnp.zeros(config.n_embd))

    def __call__(self, x: jax.Array) -> jax.Array:
        y = x.astype(jnp.float32)
        y = y * jax.lax.rsqrt(jnp.square(y).mean(-1, keepdims=True) + self.eps)
        return (y * (1 + self.scale[...][None])).astype(x.dtype)


class MLP(Module):
    """A layer that is gated by another's GELU, and back."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        C, width = config.n_embd, config.intermediate_size
        self.gate_proj = linear(config, "gate_proj", C, width, rngs)
        self.up_proj = linear(config, "up_proj", C, width, rngs)
        self.down_proj = linear(config, "down_proj", width, C, rngs, residual=True)

    @jax.named_scope("mlp")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.down_proj(gated(self.up_proj(x), self.gate_proj(x)))


# ---- Attention


class Attention(Module):
    """Causal self-attention to a window, with H heads, of which each H / K in a row share a head of keys and values."""

    def __init__(self, config: GriffinConfig, rngs: Rngs):
        C, D = config.n_embd, config.head_size
        self.head_size, self.window, self.rope_theta = D, config.window, config.rope_theta
        self.implementation = config.attention
        self.q_proj = linear(config, "q_proj", C, config.n_head * D, rngs, use_bias=False)
        self.k_proj = linear(config, "k_proj", C, config.n_kv_head * D, rngs, use_bias=False)
        self.v_proj = linear(config, "v_proj", C, config.n_kv_head * D, rngs, use_bias=False)
        self.o_proj = linear(config, "o_proj", config.n_head * D, C, rngs, residual=True)

    @jax.named_scope("attention")
    def __call__(self, x: jax.Array, past: jax.Array, first_visible: jax.Array | None = None) -> jax.Array:
        """(B*T, C) to (B*T, C); see Block."""
        y = attention(*self.qkv(x, past), first_visible, self.implementation)  # (B, T, H, D)
        return self.o_proj(y.reshape(x.shape[0], -1))

    @jax.named_scope("attention")
    def decode(self, x: jax.Array, state: State, past: jax.Array, count: jax.Array) -> tuple[jax.Array, State]:
        """The same from the keys and values of a window on; see Block."""
        q, *new = self.qkv(x, past)
        keys, values = (jnp.concatenate(both, axis=1) for both in zip(state, new, strict=True))  # (B, S + T, K, D)
        (B, T, H, D), S, K = q.shape, state[0].shape[1], keys.shape[2]
        place, own = jnp.arange(S + T)[None, None], S + jnp.arange(T)[None, :, None]  # in `keys`; of each query
        started = place >= own - past[:, :, None]
        visible = (place <= own) & (place > own - self.window) & started  # (B or 1, T, S + T)
        scores = jnp.einsum(
            "btkgd,bskd->bkgts", q.reshape(B, T, K, H // K, D), keys, preferred_element_type=jnp.float32
        )
        weights = jax.nn.softmax(jnp.where(visible[:, None, None], scores * D**-0.5, -jnp.inf)).astype(values.dtype)
        y = jnp.einsum("bkgts,bskd->btkgd", weights, values, preferred_element_type=jnp.float32).astype(x.dtype)
        return self.o_proj(y.reshape(B * T, H * D)), (slices(keys, count, S), slices(values, count, S))

    def qkv(self, x: jax.Array, past: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
        """Queries, (B, T, H, D), keys and values, (B, T, K, D), of (B*T, C); half of their features are rotated."""
        T, D = past.shape[1], self.head_size
        q, k, v = (
            project(x).reshape(x.shape[0] // T, T, project.out_features // D, D)
            for project in (self.q_proj, self.k_proj, self.v_proj)
        )
        frequency = 1 / np.float32(self.rope_theta) ** (np.arange(0, D // 2, 2, dtype=np.float32) / (D // 2))
        angles = past[:, :, None, None].astype(jnp.float32) * frequency[None, None, None]
        rotation, n = (jnp.cos(angles), jnp.sin(angles)), 2 * len(frequency)
        q, k = (jnp.concatenate([rotate(z[..., :n], rotation), z[..., n:]], axis=-1) for z in (q, k))
        return q, k, v


# ---- Hugging Face's names

PREFIX, HEAD, SCORE = "model.", "lm_head.weight", "score.weight"


def hf_names(path: tuple, config: GriffinConfig) -> list[str]:
    """What Hugging Face calls a leaf of Griffin, by its path in the tree: one name, or one for each layer of a stack.

    `.final_norm.scale.value` -> `model.final_norm.weight`; of a pattern rra `.attention.mlp_block.up_proj.kernel.value`
    -> `model.layers.2.mlp_block.up_proj.weight`, that of layer 5, ...
    """
    name = jax.tree_util.keystr(path).strip(".").removesuffix(".value")
    name = re.sub(r"\b(kernel|scale|embedding)$", "weight", name)
    stack_name, _, name_in_layer = name.partition(".")
    if stack_name not in STACK_OF.values():
        return [name if name in (SCORE, HEAD) else PREFIX + name]
    numbers = (number for number, kind in enumerate(config.kinds) if STACK_OF[kind] == stack_name)
    return [f"{PREFIX}layers.{number}.{name_in_layer}" for number in numbers]


MODEL, SHARDING_RULES = Griffin, layers.SHARDING_RULES
HUGGING_FACE = HuggingFaceTensors(
    names=hf_names,
    transposed=lambda path: path[-2].name == "kernel",
    prefix=PREFIX,
    embedding=f"{PREFIX}embed_tokens.weight",
    head=HEAD,
    labels=SCORE,
    skipped=re.compile(r"layers\.\d+\.temporal_block\.rotary_emb\.inv_freq"),
)
