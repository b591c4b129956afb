"""Text generation: prompts of token ids in, new token ids out, one compiled program for all prompts and settings.

A model that predicts several tokens can speculate: its other heads draft tokens, which the next forward pass reads
after the newest one. Drafts that agree with the first head are accepted (Gloeckle et al., 2024, section 3.2; Stern et
al., 2018, "Blockwise Parallel Decoding for Deep Autoregressive Models"). The text is the same, in fewer passes.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.errors import UsageError
from jaxgpt.inference.sampling import SamplingParams, make_sampling_params, prompt_keys, sample_token
from jaxgpt.models.base import Cache, Generative, Speculative, next_token_logits
from jaxgpt.models.layers import unstack_layers

PREFILL = 32  # tokens of a prompt that are read at a time, so that every length of a prompt has the same program
MIN_ROOM = 1024  # tokens that there is always room for, if the model's context has it


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class DecodeState:
    """B texts that are being generated.

    Attributes:
      tokens: int32 (B, W), each text from column 0 on, and after its newest token the drafts of the next ones.
      length: int32 (B,), tokens of each text; the newest is not in the cache yet.
      num_cached: int32 (), columns of `tokens` that are in the cache, of which a shorter text has all but its newest;
        or int32 (B,), where texts continue that were read before.
      num_new: int32 (B,), new tokens so far.
      done: bool (B,), whether the stop token was sampled.
      forwards, accepted: as in Chunk, int32 () and (heads that draft,).
      log_probs: float32 (B, W), the log-probability of each new token, in nats; None: they are not computed.
    """

    tokens: jax.typing.ArrayLike
    length: jax.typing.ArrayLike
    num_cached: jax.typing.ArrayLike
    num_new: jax.typing.ArrayLike
    done: jax.typing.ArrayLike
    forwards: jax.typing.ArrayLike
    accepted: jax.typing.ArrayLike
    log_probs: jax.typing.ArrayLike | None = None


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


def init_decoder(
    model: Generative, B: int, speculate: bool = False, room: int | None = None
) -> tuple[Generative, Cache]:
    """The model in the layout that decodes fastest, and an empty cache for B texts; all but the model are static.

    Args:
      room: the most tokens of a text; None: block_size.
    """
    init_cache = model.init_draft_cache if speculate else model.init_cache
    return unstack_layers(model), init_cache(B, room or model.config.block_size)


def decode_until(
    model: Generative,
    cache: Cache,
    state: DecodeState,
    sampling: SamplingParams,
    keys: jax.Array,
    until: jax.Array,
    prefill_size: int = PREFILL,
) -> tuple[DecodeState, Cache]:
    """Fill the cache, then add tokens until all texts have `until` new ones or are done, or one is full.

    Args:
      model, cache: from `init_decoder`.
      state: with speculation, `accepted` has a number for each head that drafts.
      keys: (B,), one for each text.
      until: int32 (), or (B,).
      prefill_size: columns that are read at a time.
    """
    n, room = 1 + len(state.accepted), model.config.block_size
    rows, offsets = jnp.arange(len(state.tokens))[:, None], jnp.arange(n)[None]

    def prefill(carry: tuple[DecodeState, Cache]) -> tuple[DecodeState, Cache]:
        state, cache = carry
        if jnp.ndim(state.num_cached):
            columns = state.num_cached[:, None] + jnp.arange(prefill_size)[None]
            idx = jnp.take_along_axis(state.tokens, columns, axis=1, mode="fill", fill_value=0)
        else:
            idx = jax.lax.dynamic_slice_in_dim(state.tokens, state.num_cached, prefill_size, axis=1)
        if n == 1:  # the newest token is read by the first decode step, and nothing follows it
            _, cache = model.decode(
                idx, cache, state.num_cached, jnp.clip(state.length - 1 - state.num_cached, 0, prefill_size)
            )
        else:
            _, trunk, cache = model.decode_with_trunk(idx, cache, state.num_cached)
            _, cache = model.draft(trunk, cache, state.num_cached, jnp.zeros(len(idx), jnp.int32))
        num_cached = state.num_cached + prefill_size
        if jnp.ndim(num_cached):
            num_cached = jnp.minimum(num_cached, jnp.maximum(state.length - 1, state.num_cached))
        return dataclasses.replace(state, num_cached=num_cached), cache

    def last_column(length: jax.Array) -> jax.Array:
        return length - 1 if jnp.ndim(state.num_cached) else length.max() - 1

    def is_active(state: DecodeState) -> jax.Array:
        return ~state.done & (state.num_new < until)  # (B,)

    def decode_step(carry: tuple[DecodeState, Cache]) -> tuple[DecodeState, Cache]:
        state, cache = carry
        active, end = is_active(state), state.length[:, None]
        column = jnp.where(active[:, None], end, state.tokens.shape[1])  # out of range for inactive texts: dropped
        idx = state.tokens[rows, end - 1 + offsets]  # (B, n), the newest token and the drafts after it
        if n == 1:
            x, cache = model.decode(idx, cache, state.length - 1, active.astype(jnp.int32))
            logits = next_token_logits(model, x[:, 0])
            new = sample_token(logits, sampling, keys, state.num_new)[:, None]
        else:
            x, trunk, cache = model.decode_with_trunk(idx, cache, state.length - 1)
            new = jnp.argmax(next_token_logits(model, x), -1).astype(jnp.int32)
        # A draft is accepted if it and all before it agree with the first head, whose own token follows them.
        accepted = jnp.cumprod(new[:, :-1] == idx[:, 1:], axis=1)  # (B, n - 1)
        num_added = jnp.where(active, jnp.minimum(1 + accepted.sum(1), room + 1 - state.length), 0)
        last = jnp.maximum(num_added - 1, 0)
        tokens = state.tokens.at[rows, column + offsets].set(new, mode="drop")
        if n > 1:
            x, cache = model.draft(trunk, cache, state.length - 1, last)
            drafts = jnp.argmax(next_token_logits(model, x), -1).astype(jnp.int32).T  # (B, n - 1)
            tokens = tokens.at[rows, column + last[:, None] + offsets[:, 1:]].set(drafts, mode="drop")
        log_probs = state.log_probs
        if log_probs is not None:
            value = jnp.take_along_axis(jax.nn.log_softmax(logits), new, axis=1)
            log_probs = log_probs.at[rows, column].set(value, mode="drop")
        stopped = ((new == sampling.stop) & (offsets < num_added[:, None])).any(1)
        return dataclasses.replace(
            state,
            tokens=tokens,
            length=state.length + num_added,
            num_new=state.num_new + num_added,
            done=state.done | stopped,
            forwards=state.forwards + active.sum(dtype=jnp.int32),
            accepted=state.accepted + (offsets[:, 1:] < num_added[:, None]).sum(0),
            log_probs=log_probs,
        ), cache

    def has_room(state: DecodeState) -> jax.Array:
        return (state.length <= room) | ~is_active(state)

    state, cache = jax.lax.while_loop(
        lambda carry: (carry[0].num_cached < last_column(carry[0].length)).any(), prefill, (state, cache)
    )
    state, cache = jax.lax.while_loop(
        lambda carry: is_active(carry[0]).any() & has_room(carry[0]).all(), decode_step, (state, cache)
    )
    return dataclasses.replace(state, num_cached=last_column(state.length)), cache


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
