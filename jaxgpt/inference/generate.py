"""Text generation: prompts of token ids in, new token ids out, one compiled program for all prompts and settings.

A model that predicts several tokens can speculate: its further heads guess tokens, which the next forward pass reads
behind the newest one, and of which those stay that the first head would have written (Gloeckle et al., 2024, section
3.2; Stern et al., 2018, "Blockwise Parallel Decoding for Deep Autoregressive Models"). So it is the same text, in fewer
passes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.errors import UsageError
from jaxgpt.inference.sampling import Settings, draw, settings
from jaxgpt.models.base import Cache, Generative, Speculative, next_token_logits
from jaxgpt.models.layers import unstack_layers

PREFILL = 32  # tokens of a prompt that are read at a time, so that every length of a prompt has the same program


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Texts:
    """B texts in the making.

    Attributes:
      tokens: int32 (B, W), each text from column 0 on, and behind its newest token guesses of those that follow.
      length: int32 (B,), tokens of each; the newest is not in the cache yet.
      read: int32 (), how many columns of `tokens` are in the cache; of shorter texts, what they have.
      made: int32 (B,), new tokens so far.
      done: bool (B,), has drawn the stop token.
      forwards, kept: as of Piece, int32 () and (further heads,).
    """

    tokens: jax.typing.ArrayLike
    length: jax.typing.ArrayLike
    read: jax.typing.ArrayLike
    made: jax.typing.ArrayLike
    done: jax.typing.ArrayLike
    forwards: jax.typing.ArrayLike
    kept: jax.typing.ArrayLike


class Piece(NamedTuple):
    """A part of each text, and how all of it so far came about.

    Attributes:
      tokens: of each prompt, the new ones since the piece before.
      forwards: how often the model has looked for new tokens of a text, all texts together.
      kept: of these, how often the guess of head 2, 3, ... was right, though the text may end before it; empty without
        speculation.
    """

    tokens: list[list[int]]
    forwards: int
    kept: list[int]


def generate(
    model: Generative,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    key: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
    speculate: bool = False,
) -> list[list[int]]:
    """Continue prompts, all at once, each as if it were alone.

    A text that outgrows block_size loses its older half and goes on with the rest as its context.

    Args:
      prompts: token ids; their lengths, from 1 to block_size, may differ.
      max_new_tokens: for each prompt.
      key: of the draws. New token i of prompt b has fold_in(fold_in(key, b), i). Not needed at temperature 0.
      temperature: logits are divided by it; 0 takes the likeliest token always (greedy).
      top_k: draw among the k likeliest tokens alone, and those equal to the last of them; 0: among all.
      top_p: draw among the fewest likeliest tokens, of those left by top_k, that have this probability together
        (nucleus sampling, Holtzman et al., 2020); 1: among all.
      stop: the token id that ends a text, such as <|endoftext|>; it is not part of what is returned.
      speculate: find the same tokens in fewer passes, with the further heads that a model has; at temperature 0 alone.

    Returns:
      The new token ids of each prompt.

    Raises:
      UsageError: an argument is out of range, a prompt is empty or longer than block_size.
    """
    chosen = settings(temperature, top_k, top_p, stop)
    texts: list[list[int]] = [[] for _ in prompts]
    for piece in stream(model, prompts, max_new_tokens, chosen, key, speculate=speculate):
        for text, tokens in zip(texts, piece.tokens, strict=True):
            text += tokens
    return texts


def stream(
    model: Generative,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    chosen: Settings,
    key: jax.Array | None = None,
    every: int | None = None,
    speculate: bool = False,
) -> Iterator[Piece]:
    """As `generate`, with settings made before, but yields a piece whenever each text has `every` tokens more.

    A piece has fewer where a context is full, and with speculation a text may have more by the guesses that were right.
    """
    _check(model, prompts, max_new_tokens)
    if speculate and not (isinstance(model, Speculative) and model.config.predict_tokens > 1):
        raise UsageError("the model predicts one token: it has no further heads to speculate with")
    if speculate and chosen.temperature > 0:
        raise UsageError(f"speculation finds the likeliest tokens, temperature 0, and not {chosen.temperature:g}")
    if key is None and chosen.temperature > 0:
        raise UsageError("a temperature above 0 needs a key")
    # Greedy needs no key, but the program takes one; made of numpy's numbers, it is no program itself.
    key = jax.random.wrap_key_data(np.zeros(2, np.uint32), impl="threefry2x32") if key is None else key
    further = model.config.predict_tokens - 1 if speculate else 0
    model, cache = _prepare(model, len(prompts), speculate)
    return _stream(model, cache, further, prompts, max_new_tokens, chosen, key, every or max_new_tokens)


def _stream(
    model: Generative,
    cache: Cache,
    further: int,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    chosen: Settings,
    key: jax.Array,
    every: int,
) -> Iterator[Piece]:
    room = model.config.block_size
    width = -(-(room + further) // PREFILL) * PREFILL + 2 * (1 + further)
    context, guesses = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    made, done = np.zeros(len(prompts), np.int32), np.zeros(len(prompts), bool)
    counts, texts = (np.int32(0), np.zeros(further, np.int32)), None
    while (left := ~done & (made < max_new_tokens)).any():
        if texts is None or (np.asarray(texts.length)[left] > room).any():  # the beginning, or the end of a window
            # Of a text that is done the last token is enough: a long one would be read again for nothing.
            context = [text if goes_on else text[-1:] for text, goes_on in zip(context, left, strict=True)]
            context = [text if len(text) <= room else text[-max(room // 2, 1) :] for text in context]
            texts = _align(context, guesses, width, np.minimum(made, max_new_tokens), done, *counts)
        until = min(made[left].min() + every, max_new_tokens)
        texts, cache = _advance(model, cache, texts, chosen, key, np.int32(until))
        made, done, counts = np.asarray(texts.made), np.asarray(texts.done), (texts.forwards, texts.kept)
        tokens, length = np.asarray(texts.tokens).tolist(), np.asarray(texts.length)
        ends = length - np.maximum(made - max_new_tokens, 0)  # of the last tokens, guesses, some are too many
        new = [_before(chosen.stop, row[len(text) : end]) for row, text, end in zip(tokens, context, ends, strict=True)]
        guesses = [row[end : end + further] for row, end in zip(tokens, length, strict=True)]
        for text, more in zip(context, new, strict=True):
            text += more
        yield Piece(new, int(texts.forwards), np.asarray(texts.kept).tolist())


def _align(texts: list[list[int]], guesses: list[list[int]], width: int, *others: np.ndarray) -> Texts:
    tokens = np.zeros((len(texts), width), np.int32)
    for row, text, behind in zip(tokens, texts, guesses, strict=True):
        row[: len(text) + len(behind)] = text + behind
    return Texts(tokens, np.array([len(text) for text in texts], np.int32), np.int32(0), *others)


def _before(stop: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


def prepare(model: Generative, B: int, speculate: bool = False) -> tuple[Generative, Cache]:
    """The model as decoding reads it fastest, and an empty cache for B texts; jit it with B and speculate static."""
    init_cache = model.init_draft_cache if speculate else model.init_cache
    return unstack_layers(model), init_cache(B, model.config.block_size)


def advance(
    model: Generative, cache: Cache, texts: Texts, chosen: Settings, key: jax.Array, until: jax.Array
) -> tuple[Texts, Cache]:
    """Read what is not in the cache yet, then add tokens: until all texts have `until` or are done, or one is full.

    Args:
      model, cache: as `prepare` gives them.
      texts: of a model that speculates, `kept` has a number for each of its further heads.
    """
    n, room = 1 + len(texts.kept), model.config.block_size
    rows, ahead = jnp.arange(len(texts.tokens))[:, None], jnp.arange(n)[None]

    def read(carry: tuple[Texts, Cache]) -> tuple[Texts, Cache]:
        texts, cache = carry
        idx = jax.lax.dynamic_slice_in_dim(texts.tokens, texts.read, PREFILL, axis=1)
        if n == 1:  # the newest token of a text is not read yet, and what is behind it is none
            _, cache = model.decode(idx, cache, texts.read, jnp.clip(texts.length - 1 - texts.read, 0, PREFILL))
        else:
            _, trunk, cache = model.decode_with_trunk(idx, cache, texts.read)
            _, cache = model.draft(trunk, cache, texts.read, jnp.zeros(len(idx), jnp.int32))
        return dataclasses.replace(texts, read=texts.read + PREFILL), cache

    def goes_on(texts: Texts) -> jax.Array:
        return ~texts.done & (texts.made < until)  # (B,)

    def write(carry: tuple[Texts, Cache]) -> tuple[Texts, Cache]:
        texts, cache = carry
        active, end = goes_on(texts), texts.length[:, None]
        place = jnp.where(active[:, None], end, texts.tokens.shape[1])  # of others nothing is written: it is dropped
        idx = texts.tokens[rows, end - 1 + ahead]  # (B, n), the newest token and the guesses behind it
        if n == 1:
            x, cache = model.decode(idx, cache, texts.length - 1, active.astype(jnp.int32))
            new = draw(next_token_logits(model, x[:, 0]), chosen, key, texts.made)[:, None]
        else:
            x, trunk, cache = model.decode_with_trunk(idx, cache, texts.length - 1)
            new = jnp.argmax(next_token_logits(model, x), -1).astype(jnp.int32)
        # A guess that is what the first head writes there stays, if all before it do; then comes one token more.
        kept = jnp.cumprod(new[:, :-1] == idx[:, 1:], axis=1)  # (B, n - 1)
        gained = jnp.where(active, jnp.minimum(1 + kept.sum(1), room + 1 - texts.length), 0)
        last = jnp.maximum(gained - 1, 0)
        tokens = texts.tokens.at[rows, place + ahead].set(new, mode="drop")
        if n > 1:
            x, cache = model.draft(trunk, cache, texts.length - 1, last)
            guesses = jnp.argmax(next_token_logits(model, x), -1).astype(jnp.int32).T  # (B, n - 1)
            tokens = tokens.at[rows, place + last[:, None] + ahead[:, 1:]].set(guesses, mode="drop")
        ended = ((new == chosen.stop) & (ahead < gained[:, None])).any(1)
        return dataclasses.replace(
            texts,
            tokens=tokens,
            length=texts.length + gained,
            made=texts.made + gained,
            done=texts.done | ended,
            forwards=texts.forwards + active.sum(dtype=jnp.int32),
            kept=texts.kept + (ahead[:, 1:] < gained[:, None]).sum(0),
        ), cache

    def has_room(texts: Texts) -> jax.Array:
        return (texts.length <= room) | ~goes_on(texts)

    texts, cache = jax.lax.while_loop(lambda carry: carry[0].read < carry[0].length.max() - 1, read, (texts, cache))
    texts, cache = jax.lax.while_loop(
        lambda carry: goes_on(carry[0]).any() & has_room(carry[0]).all(), write, (texts, cache)
    )
    return dataclasses.replace(texts, read=texts.length.max() - 1), cache


_prepare = jax.jit(prepare, static_argnums=(1, 2))
_advance = jax.jit(advance, donate_argnames="cache")  # the cache is written in place


def _check(model: Generative, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
    if len(prompts) == 0:
        raise UsageError("no prompt was given; generate needs one at least")
    V, room = model.config.vocab_size, model.config.block_size
    for prompt in prompts:
        if not 1 <= len(prompt) <= room:
            raise UsageError(f"a prompt of {len(prompt):,} tokens: the model takes 1 to {room:,}, its context")
        if not all(0 <= token < V for token in prompt):
            raise UsageError(f"a prompt has a token beyond the model's vocabulary, ids 0 to {V - 1:,}")
    if max_new_tokens < 1:
        raise UsageError(f"max_new_tokens {max_new_tokens} is out of range: it must be at least 1")
