"""Text generation: prompts of token ids in, new token ids out, one compiled program for all prompts and settings."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxgpt.decode import Cache, Decoder, forward, prepare
from jaxgpt.draw import Settings, draw, settings
from jaxgpt.errors import UsageError
from jaxgpt.model import GPT2

PREFILL = 32  # tokens of a prompt that are read at a time, so that every length of a prompt has the same program


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class Texts:
    """B texts in the making.

    Attributes:
      tokens: int32 (B, S + 1), right-aligned: each text ends in the same column. S is the cache's, and one is to come.
      start: int32 (B,), the column of each text's first token.
      column: int32 (), of the newest tokens, which are not in the cache yet.
      read: int32 (), how many columns of `tokens` are in the cache.
      made: int32 (), new tokens so far.
      done: bool (B,), has drawn the stop token.
    """

    tokens: jax.typing.ArrayLike
    start: jax.typing.ArrayLike
    column: jax.typing.ArrayLike
    read: jax.typing.ArrayLike
    made: jax.typing.ArrayLike
    done: jax.typing.ArrayLike


def generate(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    key: jax.Array | None = None,
    temperature: float = 1.0,
    top_k: int = 0,
    top_p: float = 1.0,
    stop: int | None = None,
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

    Returns:
      The new token ids of each prompt.

    Raises:
      UsageError: an argument is out of range, a prompt is empty or longer than block_size.
    """
    chosen = settings(temperature, top_k, top_p, stop)
    texts: list[list[int]] = [[] for _ in prompts]
    for new in stream(model, prompts, max_new_tokens, chosen, key):
        for text, tokens in zip(texts, new, strict=True):
            text += tokens
    return texts


def stream(
    model: GPT2,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    chosen: Settings,
    key: jax.Array | None = None,
    every: int | None = None,
) -> Iterator[list[list[int]]]:
    """As `generate`, with settings made before, but yields each prompt's new tokens whenever there are `every` more."""
    _check(model, prompts, max_new_tokens)
    if key is None and chosen.temperature > 0:
        raise UsageError("a temperature above 0 needs a key")
    # Greedy needs no key, but the program takes one; made of numpy's numbers, it is no program itself.
    key = jax.random.wrap_key_data(np.zeros(2, np.uint32), impl="threefry2x32") if key is None else key
    decoder, cache = _prepare(model, len(prompts))
    return _stream(decoder, cache, prompts, max_new_tokens, chosen, key, every or max_new_tokens)


def _stream(
    decoder: Decoder,
    cache: Cache,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    chosen: Settings,
    key: jax.Array,
    every: int,
) -> Iterator[list[list[int]]]:
    room, made, done = decoder.config.block_size, 0, np.zeros(len(prompts), bool)
    context, texts = [list(prompt) for prompt in prompts], None
    while made < max_new_tokens and not done.all():
        if texts is None or texts.column == room:  # the beginning, or the end of the window
            # Of a text that is done the last token is enough: a long one would fill the window for all.
            context = [text[-1:] if over else text for text, over in zip(context, done, strict=True)]
            context = [text if len(text) <= room else text[-max(room // 2, 1) :] for text in context]
            texts = _align(context, width=cache[0][0].shape[2] + 1, made=made, done=done)
        until = made + min(every, max_new_tokens - made, room - int(texts.column))
        texts, cache = _advance(decoder, cache, texts, chosen, key, np.int32(until))
        tokens, column = np.asarray(texts.tokens), int(texts.column)
        first = column + 1 - (int(texts.made) - made)
        new = [
            [] if over else _before(chosen.stop, row[first : column + 1].tolist())
            for row, over in zip(tokens, done, strict=True)
        ]
        for text, more in zip(context, new, strict=True):
            text += more
        made, done = int(texts.made), np.asarray(texts.done)
        yield new


def _align(texts: list[list[int]], width: int, made: int, done: np.ndarray) -> Texts:
    end = max(map(len, texts))
    tokens = np.zeros((len(texts), width), np.int32)
    for row, text in zip(tokens, texts, strict=True):
        row[end - len(text) : end] = text
    start = np.array([end - len(text) for text in texts], np.int32)
    return Texts(tokens, start, np.int32(end - 1), np.int32(0), np.int32(made), done)


def _before(stop: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


def advance(
    decoder: Decoder, cache: Cache, texts: Texts, chosen: Settings, key: jax.Array, until: jax.Array
) -> tuple[Texts, Cache]:
    """Read what of the texts is not in the cache, then add tokens: until `until` are made, or all texts are done."""

    def read(carry: tuple[Texts, Cache]) -> tuple[Texts, Cache]:
        texts, cache = carry
        idx = jax.lax.dynamic_slice_in_dim(texts.tokens, texts.read, PREFILL, axis=1)
        # The last ones may be beyond the end of the texts. They are seen by nobody, and written over in their turn.
        _, cache = forward(decoder, cache, idx, texts.read, texts.start)
        return dataclasses.replace(texts, read=texts.read + PREFILL), cache

    def write(carry: tuple[Texts, Cache]) -> tuple[Texts, Cache]:
        texts, cache = carry
        idx = jax.lax.dynamic_slice_in_dim(texts.tokens, texts.column, 1, axis=1)
        logits, cache = forward(decoder, cache, idx, texts.column, texts.start)
        new = draw(logits[:, : decoder.config.vocab_size], chosen, key, texts.made)
        return dataclasses.replace(
            texts,
            tokens=jax.lax.dynamic_update_slice_in_dim(texts.tokens, new[:, None], texts.column + 1, axis=1),
            column=texts.column + 1,
            made=texts.made + 1,
            done=texts.done | (new == chosen.stop),
        ), cache

    texts, cache = jax.lax.while_loop(lambda carry: carry[0].read < carry[0].column, read, (texts, cache))
    texts, cache = jax.lax.while_loop(
        lambda carry: (carry[0].made < until) & ~carry[0].done.all(), write, (texts, cache)
    )
    return dataclasses.replace(texts, read=texts.column), cache


_prepare = jax.jit(prepare, static_argnums=1)
_advance = jax.jit(advance, donate_argnames="cache")  # the cache is written in place


def _check(model: GPT2, prompts: Sequence[Sequence[int]], max_new_tokens: int) -> None:
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
