"""GPT-2 with a key-value cache: each token is computed once, and the next one looks its keys and values up."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp

from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2, Block, embed, matmul_precision, unembed

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


def forward(decoder: Decoder, cache: Cache, idx: jax.Array, column: jax.Array) -> tuple[jax.Array, jax.Array, Cache]:
    """What the output matrix reads at each of `idx`, and the cache with their keys and values.

    Args:
      cache: filled for the columns before `column`.
      idx: int (B, T), the tokens of columns column, ..., column + T - 1; a text begins in column 0.
      column: int (), or (B,) where each text is in a column of its own.

    Returns:
      (B, T, C); what the heads of further tokens read, (B, T, C); and the new cache, in which theirs is the old one.
    """
    with matmul_precision(decoder.config):
        positions = jnp.minimum(_columns(column, idx.shape[1]), decoder.config.block_size - 1)
        x, filled = embed(decoder, idx, positions), []  # (B, T, C)
        for block, own in zip(decoder.layers, cache[: len(decoder.layers)], strict=True):
            trunk, (x, new) = x, _through(block, x, own, column)
            filled.append(new)
        return decoder.ln_f(x), trunk, (*filled, *cache[len(decoder.layers) :])


def guess(
    decoder: Decoder, cache: Cache, trunk: jax.Array, column: jax.Array, at: jax.Array
) -> tuple[jax.Array, Cache]:
    """What the output matrix reads of each further head at one token of each text, and the cache with all tokens'.

    Args:
      cache, column: as for `forward`.
      trunk: (B, T, C), as `forward` gives it.
      at: int (B,), which of the T.

    Returns:
      (further heads, B, C), and the new cache.
    """
    with matmul_precision(decoder.config):
        outputs, filled = [jnp.zeros((0, *trunk[:, 0].shape), trunk.dtype)], []
        for block, own in zip(decoder.heads, cache[len(decoder.layers) :], strict=True):
            x, new = _through(block, trunk, own, column, at)
            outputs.append(decoder.ln_f(x).swapaxes(0, 1))
            filled.append(new)
        return jnp.concatenate(outputs), (*cache[: len(decoder.layers)], *filled)


def _through(
    block: Block, x: jax.Array, own: tuple[jax.Array, jax.Array], column: jax.Array, at: jax.Array | None = None
) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    """A block of (B, T, C), and its cache with all T; of one token of each text alone, (B, 1, C), where `at` says."""
    B, T, C = x.shape
    q, k, v = (z.swapaxes(1, 2) for z in block.attn.qkv(block.ln_1(x.reshape(B * T, C)), T))  # (B, H, T, D)
    keys, values = write(own[0], k, column), write(own[1], v, column)
    columns = _columns(column, T)
    if at is not None:
        rows, columns = jnp.arange(B), jnp.broadcast_to(columns, (B, T))
        x, q, columns = x[rows, at][:, None], q[rows, :, at][:, :, None], columns[rows, at][:, None]
    y = attend(q, keys, values, columns).swapaxes(1, 2)  # (B, T, H, D)
    x, shape = x.reshape(-1, C), x.shape
    x = x + block.attn.c_proj(y.reshape(-1, C))
    x = x + block.mlp(block.ln_2(x))
    return x.reshape(shape), (keys, values)


def _columns(column: jax.Array, T: int) -> jax.Array:
    """The columns of T tokens from one on, int (1, T) or (B, T)."""
    return column.reshape(-1, 1) + jnp.arange(T)[None]


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
