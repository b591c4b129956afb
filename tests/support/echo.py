"""A model that answers with the first word of its prompt, without weights."""

import dataclasses
import functools

import jax
import jax.numpy as jnp

from jaxgpt.models.configs import GPT2Config
from tests.support.players import TextModel

CONFIG = GPT2Config(vocab_size=257, block_size=64, n_layer=1, n_head=1, n_embd=8)


@functools.partial(jax.tree_util.register_dataclass, data_fields=[], meta_fields=["config"])
@dataclasses.dataclass(frozen=True)
class Echo(TextModel):
    """After ":" it writes a space, the text's first word, and the end token.

    Without ":" it writes dots without end.
    """

    config: GPT2Config = CONFIG

    @jax.numpy_rank_promotion("allow")
    def decode(self, tokens, cache, column, count=None):
        cache, columns, seen = self.write(tokens, cache, column)  # what an earlier text has left is not seen
        colon = jnp.argmax(seen & (cache == ord(":"))[:, None], axis=-1)  # (B, T); 0: there is none
        copied = cache[jnp.arange(len(tokens))[:, None], jnp.maximum(columns - colon - 1, 0)]
        next_ids = jnp.where(copied == ord(" "), 256, copied)
        next_ids = jnp.where(columns == colon, ord(" "), next_ids)
        return 100 * jax.nn.one_hot(jnp.where(colon, next_ids, ord(".")), 257), cache
