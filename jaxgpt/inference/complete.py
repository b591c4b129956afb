"""Answers to many prompts: a batch of rows, each of which takes the next prompt when its answer has ended.

This is continuous batching (Yu et al., 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", iteration-level scheduling), here with a look at the rows every CHUNK tokens.
"""

import collections
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxgpt.inference.decoder import PREFILL, DecodeState, decode_until
from jaxgpt.inference.generate import room_for
from jaxgpt.inference.sampling import SamplingParams, prompt_keys
from jaxgpt.models.base import Cache, Generative
from jaxgpt.models.layers import unstack_layers

CHUNK = 16  # tokens of each answer between two looks at which have ended
PREFILL_COST = 8  # decode steps that take as long as reading PREFILL tokens of each prompt


def complete(
    model: Generative,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    batch_size: int,
    sampling: SamplingParams,
    seed: int = 0,
    on_progress: Callable[[int], None] = lambda answers: None,
) -> list[list[int]]:
    """Continue prompts, each as `generate` would continue it alone.

    Args:
      prompts: token ids, one or more; of a prompt that is longer than block_size, its end is read.
      max_new_tokens: for each prompt; an answer that has fewer ended in the stop token.
      batch_size: prompts at a time.
      seed: of sampling; a prompt gets the same answer in any batch.
      on_progress: called with the number of answers finished since the last call.

    Returns:
      The new token ids of each prompt, without the stop token.
    """
    prompts = [list(prompt[-model.config.block_size :]) for prompt in prompts]
    keys = prompt_keys(jax.random.key(seed), prompts)
    # Those of about the same length are read together; the longest first, so that memory is enough for all or for none.
    queue = collections.deque(sorted(range(len(prompts)), key=lambda number: -len(prompts[number])))
    answers: list[list[int]] = [[] for _ in prompts]
    rows = Rows(unstack(model), min(batch_size, len(prompts)), max(map(len, prompts)) + max_new_tokens)
    number, idle = np.zeros(len(rows.free), int), 0  # each row's prompt; steps that free rows have waited, in all
    while queue or not rows.free.all():
        if queue and (rows.free.all() or idle >= _cost_of_reading(prompts[queue[0]], sum(~rows.free))):
            for row in np.flatnonzero(rows.free)[: len(queue)]:
                number[row] = queue.popleft()
                rows.start(row, prompts[number[row]], keys[number[row]], max_new_tokens, sampling)
            idle = 0
        written, waiting = np.flatnonzero(~rows.free), sum(rows.free)
        new, steps = rows.write()
        for row in written:
            answers[number[row]] += new[row]
        idle += waiting * steps
        on_progress(sum(rows.free[written].tolist()))
    return answers


def _cost_of_reading(prompt: list[int], active: int) -> int:
    """Steps of active rows that pass while a prompt is read."""
    return active * PREFILL_COST * -(-len(prompt) // PREFILL)


class Rows:
    """B texts that are continued, each of which can be replaced by another when it has ended.

    Args:
      model: in the layout that decodes fastest, as `unstack` makes it.
      longest: the most tokens of a text, with those that are new.

    Attributes:
      free: bool (B,), which rows have no text to continue.
      stopped: bool (B,), whether a row's text ended in its stop token.
    """

    def __init__(self, model: Generative, B: int, longest: int):
        self._model, self._block_size = model, model.config.block_size
        room = room_for(self._block_size, longest) + PREFILL  # columns behind a full text are read, too
        # Another sharding than the weights' would need the program to be compiled once more.
        sharding = next((leaf.sharding for leaf in jax.tree.leaves(model)), None)
        self._cache = jax.device_put(_init_cache(model, B, room), sharding)
        self._tokens, self._keys = np.zeros((B, room), np.int32), np.zeros((B, 2), np.uint32)
        self._length, self._cached = np.ones(B, np.int32), np.zeros(B, np.int32)
        self._num_new, self._max_new = np.zeros(B, np.int32), np.zeros(B, np.int32)
        self._temperature, self._stop = np.zeros((B, 1), np.float32), np.full((B, 1), -1, np.int32)
        self._top_k, self._top_p = np.full((2, B, 1), np.inf, np.float32)
        self.free, self.stopped = np.ones(B, bool), np.zeros(B, bool)

    def start(
        self, row: int, prompt: Sequence[int], key: np.ndarray, max_new_tokens: int, sampling: SamplingParams
    ) -> None:
        """Give a text to a row; its new token i is drawn with fold_in(key, i)."""
        self._tokens[row, : len(prompt)], self._keys[row], self._length[row] = prompt, key, len(prompt)
        self._cached[row], self._num_new[row], self._max_new[row] = 0, 0, max_new_tokens
        self._temperature[row], self._stop[row] = sampling.temperature, sampling.stop
        self._top_k[row], self._top_p[row] = sampling.top_k, sampling.top_p
        self.free[row], self.stopped[row] = False, False

    def end(self, row: int) -> None:
        """Free a row; its settings no longer cost the others time."""
        self.free[row], self._temperature[row], self._top_k[row], self._top_p[row] = True, 0, np.inf, np.inf

    def unread(self, row: int) -> int:
        """Tokens of a row's text that are not in the cache, but for the newest."""
        return int(self._length[row] - 1 - self._cached[row])

    def read(self, num_tokens: int) -> None:
        """Read up to `num_tokens` more of each text, a multiple of PREFILL, and write nothing."""
        self._decode(np.minimum(self._length, self._cached + num_tokens + 1), self._num_new)

    def write(self, num_tokens: int = CHUNK) -> tuple[list[list[int]], int]:
        """Up to `num_tokens` new ones of each text, and the steps that this took; rows whose text ends become free."""
        before, num_before, was_free = self._length, self._num_new, self.free
        values = self._decode(before, np.minimum(num_before + num_tokens, self._max_new))
        self._tokens, self._length, self._num_new, done = map(np.array, jax.device_get(values))
        self.stopped = done & ~was_free
        ends = self._length - self.stopped  # without the stop token
        new = [row[start:end].tolist() for row, start, end in zip(self._tokens, before, ends, strict=True)]
        self.free = was_free.copy()
        for row in np.flatnonzero(~was_free & (done | (self._num_new >= self._max_new))):
            self.end(row)
        for row in np.flatnonzero(~self.free & (self._length > self._block_size)):  # full: keep the newer half
            kept = self._tokens[row, : self._length[row]][-max(self._block_size // 2, 1) :].copy()
            self._tokens[row, : len(kept)], self._length[row], self._cached[row] = kept, len(kept), 0
        return new, int((self._num_new - num_before).max())

    def move(self, row: int, other: "Rows", other_row: int) -> None:
        """Give a row's text, and what was read of it, to a free row of others that have as much room."""
        other._cache = _move(other._cache, self._cache, other_row, row)
        for name in PER_ROW:
            getattr(other, name)[other_row] = getattr(self, name)[row]
        self.end(row)

    def _decode(self, length: np.ndarray, until: np.ndarray) -> tuple[jax.Array, ...]:
        state = DecodeState(
            self._tokens, length, self._cached, self._num_new, self.free, np.int32(0), np.zeros(0, np.int32)
        )
        sampling = SamplingParams(self._temperature, self._top_k, self._top_p, self._stop)
        state, self._cache = _decode_until(self._model, self._cache, state, sampling, self._keys, until)
        self._cached = np.array(state.num_cached)
        return state.tokens, state.length, state.num_new, state.done


PER_ROW = (
    *("_tokens", "_keys", "_length", "_cached", "_num_new", "_max_new"),
    *("_temperature", "_top_k", "_top_p", "_stop", "free", "stopped"),
)


def _decode_rows(
    model: Generative, cache: Cache, state: DecodeState, sampling: SamplingParams, keys: jax.Array, until: jax.Array
) -> tuple[DecodeState, Cache]:
    return decode_until(model, cache, state, sampling, jax.random.wrap_key_data(keys, impl="threefry2x32"), until)


def _copy_row(to: Cache, source: Cache, to_row: jax.Array, row: jax.Array) -> Cache:
    return jax.tree.map(lambda a, b: a.at[to_row].set(b[row]), to, source)


unstack = jax.jit(unstack_layers)
_init_cache = jax.jit(lambda model, B, room: model.init_cache(B, room), static_argnums=(1, 2))
_decode_until = jax.jit(_decode_rows, donate_argnames="cache")
_move = jax.jit(_copy_row, donate_argnames="to")
