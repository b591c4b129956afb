"""A model that answers with the first word of its prompt, without weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxgpt.models.configs import GPT2Config

CONFIG = GPT2Config(vocab_size=257, block_size=64, n_layer=1, n_head=1, n_embd=8)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["config"])
@dataclasses.dataclass(frozen=True)
class Echo:
    """A Generative of bytes. After ":" it writes a space, the text's first word, and the end token.

    Its cache is the text. Without ":" it writes dots without end.
    """

    config: GPT2Config = CONFIG
    STACKS = ()

    def unembedding(self):
        return jnp.eye(self.config.padded_vocab_size, 257)

    def init_cache(self, B, length):
        return jnp.zeros((B, length), jnp.int32)

    @jax.numpy_rank_promotion("allow")
    def decode(self, tokens, cache, column, count=None):
        rows = jnp.arange(len(tokens))[:, None]
        columns = jnp.broadcast_to(column, len(tokens))[:, None] + jnp.arange(tokens.shape[1])
        cache = cache.at[rows, columns].set(tokens, mode="drop")
        seen = jnp.arange(cache.shape[1]) <= columns[..., None]  # (B, T, length): what an earlier text has left is not
        colon = jnp.argmax(seen & (cache == ord(":"))[:, None], axis=-1)  # (B, T); 0: there is none
        copied = cache[rows, jnp.maximum(columns - colon - 1, 0)]
        next_ids = jnp.where(copied == ord(" "), 256, copied)
        next_ids = jnp.where(columns == colon, ord(" "), next_ids)
        return 100 * jax.nn.one_hot(jnp.where(colon, next_ids, ord(".")), 257), cache
