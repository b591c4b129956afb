"""A model that plays tic-tac-toe by a rule, without weights, and the same rule in Python."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs import huggingface
from jaxgpt.runs.weights import WeightsRef

CONFIG = GPT2Config(vocab_size=257, block_size=32, n_layer=1, n_head=1, n_embd=8)


class TextModel:
    """What a Generative of bytes needs that answers by a rule: its cache is the text."""

    STACKS = ()

    def unembedding(self):
        return jnp.eye(self.config.padded_vocab_size, 257)

    def init_cache(self, B, length):
        return jnp.zeros((B, length), jnp.int32)

    def write(self, tokens, cache, column):
        """The cache with the tokens; their columns (B, T); and which of its columns each sees, (B, T, length)."""
        columns = jnp.broadcast_to(column, len(tokens))[:, None] + jnp.arange(tokens.shape[1])
        cache = cache.at[jnp.arange(len(tokens))[:, None], columns].set(tokens, mode="drop")
        return cache, columns, jnp.arange(cache.shape[1]) <= columns[..., None]


@functools.partial(jax.tree_util.register_dataclass, data_fields=["order", "blind", "end"], meta_fields=["config"])
@dataclasses.dataclass(frozen=True)
class RulePlayer(TextModel):
    """A Generative of bytes. It takes the first of `order` that no move in the text has; those of `blind` it overlooks.

    Its rule is no part of the compiled programs, and its cache is the text. Behind a square it writes `end`.
    """

    order: np.ndarray  # int32 (9,)
    blind: np.ndarray  # bool (9,), of each of them
    end: np.ndarray  # int32 ()
    config: GPT2Config = CONFIG

    @classmethod
    def of(cls, order=range(1, 10), blind=(), end="\n"):
        return cls(np.array(order, np.int32), np.isin(order, blind), np.int32(ord(end)))

    def answer(self, moves):
        return next(
            int(square) for square, blind in zip(self.order, self.blind, strict=True) if blind or square not in moves
        )

    @jax.numpy_rank_promotion("allow")
    def decode(self, tokens, cache, column, count=None):
        cache, _, seen = self.write(tokens, cache, column)
        squares = self.order + ord("0")
        taken = (seen[..., None, :] & (cache[:, None, None] == squares[:, None])).any(-1) & ~self.blind  # (B, T, 9)
        next_ids = jnp.where(tokens == ord("\n"), squares[jnp.argmin(taken, axis=-1)], self.end)
        return 100 * jax.nn.one_hot(next_ids, 257), cache


def as_weights(monkeypatch, module, player):
    """Any name of weights is this player, for a command's module."""
    source = WeightsRef("player", player.config, is_run=False, folder=None)
    source.__dict__["tokenizer"] = ByteTokenizer()  # where the cached property keeps it
    monkeypatch.setattr(module, "resolve_weights", lambda name: source)
    monkeypatch.setattr(huggingface, "load", lambda source, **compute: player)


MAGIC = dict(zip(range(1, 10), (2, 7, 6, 9, 5, 1, 4, 3, 8), strict=True))  # lines of three, and no others, sum up to 15


def has_line(squares):
    values = [MAGIC[square] for square in squares]
    return any(a + b + c == 15 for a in values for b in values for c in values if a < b < c)


def count_games(answer, side, moves=()):
    """The games of a player, in the order of Tree, each followed to its end alone; int (4,)."""
    for player in (0, 1):
        if has_line(moves[player::2]):
            return np.array([1, 0, 0, 0]) if player == side else np.array([0, 0, 1, 0])
    if len(moves) == 9:
        return np.array([0, 1, 0, 0])
    if len(moves) % 2 != side:
        return sum(count_games(answer, side, (*moves, reply)) for reply in range(1, 10) if reply not in moves)
    if (square := answer(moves)) in moves:
        return np.array([0, 0, 0, 1])
    return count_games(answer, side, (*moves, square))
