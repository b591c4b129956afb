"""Text generation: prompts of token ids in, new token ids out, one compiled program for all prompts and settings.

A model that predicts several tokens can speculate: its other heads draft tokens, which the next forward pass reads
after the newest one. Drafts that agree with the first head are accepted (Gloeckle et al., 2024, section 3.2; Stern et
al., 2018, "Blockwise Parallel Decoding for Deep Autoregressive Models"). The text is the same, in fewer passes.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import numpy as np

from jaxgpt.errors import UsageError
from jaxgpt.inference.decoder import PREFILL, DecodeState, decode_until, init_decoder
from jaxgpt.inference.sampling import SamplingParams, make_sampling_params, prompt_keys
from jaxgpt.models.base import Cache, Generative, Speculative

MIN_ROOM = 1024  # tokens that there is always room for, if the model's context has it


class Chunk(NamedTuple):
    """The newest tokens of each text, and counts over all of it so far.

    Attributes:
      tokens: each prompt's new tokens since the previous chunk.
      forwards: forward passes that added tokens, summed over the texts.
      accepted: in how many of them the draft of head 2, 3, ... was right, though the text may end before it; empty
        without speculation.
    """

    tokens: list[list[int]]
    forwards: int
    accepted: list[int]


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

    A text that outgrows block_size drops its older half and continues with the rest as its context.

    Args:
      prompts: token ids; their lengths, from 1 to block_size, may differ.
      max_new_tokens: for each prompt.
      key: for sampling, see prompt_keys; not needed at temperature 0.
      temperature: logits are divided by it; 0 takes the likeliest token always (greedy).
      top_k: sample among the k likeliest tokens, and those equal to the last of them; 0: among all.
      top_p: sample among the fewest likeliest tokens, of those left by top_k, that have this probability together
        (nucleus sampling, Holtzman et al., 2020); 1: among all.
      stop: the token id that ends a text, such as <|endoftext|>; it is not part of what is returned.
      speculate: find the same tokens in fewer passes, with the heads that draft; needs temperature 0.

    Returns:
      The new token ids of each prompt.

    Raises:
      UsageError: an argument is out of range, a prompt is empty or longer than block_size.
    """
    sampling = make_sampling_params(temperature, top_k, top_p, stop)
    texts: list[list[int]] = [[] for _ in prompts]
    keys = None if key is None else prompt_keys(key, prompts)
    for chunk in stream(model, prompts, max_new_tokens, sampling, keys, speculate=speculate):
        for text, tokens in zip(texts, chunk.tokens, strict=True):
            text += tokens
    return texts


def stream(
    model: Generative,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: SamplingParams,
    keys: np.ndarray | None = None,
    chunk_size: int | None = None,
    speculate: bool = False,
) -> Iterator[Chunk]:
    """As `generate`, but yields a chunk whenever each text has `chunk_size` more tokens.

    A chunk has fewer where a context is full; with speculation a text may have more, by the accepted drafts.

    Args:
      keys: uint32 (B, 2), of prompt_keys. New token i of a text is drawn with fold_in(its key, i).
    """
    _check(model, prompts, max_new_tokens)
    if speculate and not (isinstance(model, Speculative) and model.config.predict_tokens > 1):
        raise UsageError("the model predicts one token: it has no heads that draft")
    if speculate and sampling.temperature > 0:
        raise UsageError(f"speculation needs temperature 0, not {sampling.temperature:g}")
    if keys is None and sampling.temperature > 0:
        raise UsageError("a temperature above 0 needs a key")
    # Greedy needs no keys, but the program takes them; made of numpy's numbers, they are no program of their own.
    keys = np.zeros((len(prompts), 2), np.uint32) if keys is None else keys
    keys = jax.random.wrap_key_data(keys, impl="threefry2x32")
    num_drafts = model.config.predict_tokens - 1 if speculate else 0
    room = room_for(model.config.block_size, max(map(len, prompts)) + max_new_tokens + num_drafts)
    model, cache = _init_decoder(model, len(prompts), speculate, room)
    chunk_size = chunk_size or max_new_tokens
    return _stream(model, cache, num_drafts, room, prompts, max_new_tokens, sampling, keys, chunk_size)


def _stream(
    model: Generative,
    cache: Cache,
    num_drafts: int,
    room: int,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    sampling: SamplingParams,
    keys: jax.Array,
    chunk_size: int,
) -> Iterator[Chunk]:
    width = -(-(room + num_drafts) // PREFILL) * PREFILL + 2 * (1 + num_drafts)
    context, drafts = [list(prompt) for prompt in prompts], [[] for _ in prompts]
    num_new, done = np.zeros(len(prompts), np.int32), np.zeros(len(prompts), bool)
    counts, state = (np.int32(0), np.zeros(num_drafts, np.int32)), None
    while (active := ~done & (num_new < max_new_tokens)).any():
        if state is None or (np.asarray(state.length)[active] > room).any():  # the start, or a full context
            # The last token of a finished text is enough: reading all of it again would be wasted.
            context = [
                text if unfinished else text[-1:] for text, unfinished in zip(context, active.tolist(), strict=True)
            ]
            context = [text if len(text) <= room else text[-max(room // 2, 1) :] for text in context]
            state = _init_state(context, drafts, width, np.minimum(num_new, max_new_tokens), done, *counts)
        until = min(num_new[active].min() + chunk_size, max_new_tokens)
        state, cache = _decode_until(model, cache, state, sampling, keys, np.int32(until))
        num_new, done, counts = np.asarray(state.num_new), np.asarray(state.done), (state.forwards, state.accepted)
        tokens, length = np.asarray(state.tokens).tolist(), np.asarray(state.length)
        ends = length - np.maximum(num_new - max_new_tokens, 0)  # accepted drafts may exceed max_new_tokens
        new = [
            _cut_at_stop(sampling.stop, row[len(text) : end])
            for row, text, end in zip(tokens, context, ends, strict=True)
        ]
        drafts = [row[end : end + num_drafts] for row, end in zip(tokens, length, strict=True)]
        for text, new_tokens in zip(context, new, strict=True):
            text += new_tokens
        yield Chunk(new, int(state.forwards), np.asarray(state.accepted).tolist())


def _init_state(texts: list[list[int]], drafts: list[list[int]], width: int, *counts: np.ndarray) -> DecodeState:
    tokens = np.zeros((len(texts), width), np.int32)
    for row, text, draft in zip(tokens, texts, drafts, strict=True):
        row[: len(text) + len(draft)] = text + draft
    return DecodeState(tokens, np.array([len(text) for text in texts], np.int32), np.int32(0), *counts)


def _cut_at_stop(stop: int, tokens: list[int]) -> list[int]:
    return tokens[: tokens.index(stop)] if stop in tokens else tokens


def room_for(block_size: int, longest: int) -> int:
    """Tokens that a context has room for: block_size, or fewer where no text gets so long.

    A long context's cache would take gigabytes. Few lengths, powers of two, share a few programs.
    """
    return min(block_size, max(MIN_ROOM, 1 << (longest - 1).bit_length()))


_init_decoder = jax.jit(init_decoder, static_argnums=(1, 2, 3))
_decode_until = jax.jit(decode_until, donate_argnames="cache")  # the cache is written in place


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
