"""The decoder: B texts at once, a key-value cache or a recurrent state, and a loop on the device that adds tokens."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxgpt.inference.sampling import SamplingParams, sample_token
from jaxgpt.models.base import Cache, Generative, next_token_logits
from jaxgpt.models.layers import unstack_layers

PREFILL = 32  # tokens of a prompt that are read at a time, so that every length of a prompt has the same program


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
