"""GPT-2 with a key-value cache: each token is computed once, and the next one looks its keys and values up."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxgpt.model import GPT2, Block, embed, matmul_precision, unembed
from jaxgpt.shape import GPT2Config

READ = 128  # columns of the cache that attention reads at a time: it stops where the text ends, not the cache

Cache = tuple[tuple[jax.Array, jax.Array], ...]  # keys and values of each layer and further head, (B, H, S, D)


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Decoder:
    """A GPT2 as decoding wants it: layers one by one, because slices of a stack would be copied for every token.

    Attributes:
      wte, wpe, ln_f, lm_head, config: the model's own; a tied one has no lm_head.
      layers: each of its blocks up to the next token.
      heads: of each further token that is to be guessed, its block.
    """

    wte: Any
    wpe: Any
    layers: tuple[Block, ...]
    heads: tuple[Block, ...]
    ln_f: Any
    lm_head: Any
    config: GPT2Config = dataclasses.field(metadata={"static": True})


def prepare(model: GPT2, B: int, speculate: bool = False) -> tuple[Decoder, Cache]:
    """A decoder of the model and an empty cache for B texts; jit it with B and speculate static.

    The cache has a column for each of block_size tokens and for a guess of each further head, S of them when rounded up
    to a whole number of reads.

    Args:
      speculate: with the heads of further tokens.
    """
    config = model.config
    heads = unstacked(model.extra_heads, config.predict_tokens - 1) if speculate else ()
    layers = unstacked(model.h, config.depth)
    columns = -(-(config.block_size + len(heads)) // READ) * READ
    shape = (B, config.n_head, columns, config.n_embd // config.n_head)
    cache = tuple((jnp.zeros(shape, config.dtype), jnp.zeros(shape, config.dtype)) for _ in layers + heads)
    lm_head = model.lm_head if config.untied_head else None
    return Decoder(model.wte, model.wpe, layers, heads, model.ln_f, lm_head, config), cache


def unstacked(blocks: Block, count: int) -> tuple[Block, ...]:
    return tuple(jax.tree.map(lambda leaf, i=i: leaf[i], blocks) for i in range(count))


def forward(decoder: Decoder, cache: Cache, idx: jax.Array, column: jax.Array) -> tuple[jax.Array, Cache]:
    """What the output matrix reads at each of `idx`, and the cache with their keys and values.

    Args:
      cache: filled for the columns before `column`.
      idx: int (B, T), the tokens of columns column, ..., column + T - 1; a text begins in column 0.
      column: int (), or (B,) where each text is in a column of its own.

    Returns:
      (1 + further heads, B, T, C), of which [0] is for the next token, and the new cache.
    """
    with matmul_precision(decoder.config):
        B, T = idx.shape
        columns = column.reshape(-1, 1) + jnp.arange(T)[None]  # (1, T) or (B, T)
        positions = jnp.minimum(columns, decoder.config.block_size - 1)

        def run(block: Block, x: jax.Array, own: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, tuple]:
            q, k, v = (z.swapaxes(1, 2) for z in block.attn.qkv(block.ln_1(x), T))  # (B, H, T, D)
            keys, values = write(own[0], k, column), write(own[1], v, column)
            y = attend(q, keys, values, columns).swapaxes(1, 2)  # (B, T, H, D)
            x = x + block.attn.c_proj(y.reshape(x.shape))
            return x + block.mlp(block.ln_2(x)), (keys, values)

        x, filled = embed(decoder, idx, positions).reshape(B * T, -1), []  # (B*T, C)
        for block, own in zip(decoder.layers, cache[: len(decoder.layers)], strict=True):
            trunk, (x, new) = x, run(block, x, own)
            filled.append(new)
        outputs = [x]
        for block, own in zip(decoder.heads, cache[len(decoder.layers) :], strict=True):
            x, new = run(block, trunk, own)
            outputs.append(x)
            filled.append(new)
        return jnp.stack([decoder.ln_f(x).reshape(B, T, -1) for x in outputs]), tuple(filled)


def logits(decoder: Decoder, x: jax.Array) -> jax.Array:
    """Of the next token, float32 (..., V) without padding, of what the head reads, (..., C)."""
    with matmul_precision(decoder.config):
        return unembed(decoder, x)[..., : decoder.config.vocab_size]


def write(cache: jax.Array, new: jax.Array, column: jax.Array) -> jax.Array:
    """The cache, (B, H, S, D), with what is new, (B, H, T, D), from a column on, () or (B,)."""
    if column.ndim == 0:
        return jax.lax.dynamic_update_slice_in_dim(cache, new, column, axis=2)
    of_text = functools.partial(jax.lax.dynamic_update_slice_in_dim, axis=1)
    return jax.vmap(of_text)(cache, new, column)


@jax.named_scope("attention")
def attend(q: jax.Array, keys: jax.Array, values: jax.Array, columns: jax.Array) -> jax.Array:
    """Causal attention to the cache, READ columns at a time, as many as the longest text is long.

    The softmax is built up as in Milakov & Gimelshein (2018), "Online normalizer calculation for softmax".

    Args:
      q: (B, H, T, D). keys, values: (B, H, S, D).
      columns: int (B, T) or (1, T), of each query; it sees those up to its own.

    Returns:
      (B, H, T, D)
    """
    scale, S = q.shape[-1] ** -0.5, keys.shape[2]

    def read(i: jax.Array, so_far: tuple[jax.Array, ...]) -> tuple[jax.Array, ...]:
        highest, total, y = so_far
        k, v = (jax.lax.dynamic_slice_in_dim(z, i * READ, READ, axis=2) for z in (keys, values))
        at = (i * READ + jnp.arange(READ))[None, None]  # (1, 1, READ)
        seen = at <= columns[:, :, None]  # (B, T, READ)
        scores = jnp.einsum("bhtd,bhsd->bhts", q, k, preferred_element_type=jnp.float32) * scale
        scores = jnp.where(seen[:, None], scores, -jnp.inf)
        higher = jnp.maximum(highest, scores.max(-1, keepdims=True))
        weights, shrink = jnp.exp(scores - higher), jnp.exp(highest - higher)
        mix = jnp.einsum("bhts,bhsd->bhtd", weights.astype(v.dtype), v, preferred_element_type=jnp.float32)
        return higher, total * shrink + weights.sum(-1, keepdims=True), y * shrink + mix

    lowest = jnp.full((*q.shape[:3], 1), jnp.finfo(jnp.float32).min)
    nothing = (lowest, jnp.zeros_like(lowest), jnp.zeros(q.shape, jnp.float32))
    last = jnp.minimum(columns.max(), S - 1)  # of a text that is done, a column may be beyond
    _, total, y = jax.lax.fori_loop(0, last // READ + 1, read, nothing)
    return (y / total).astype(q.dtype)
