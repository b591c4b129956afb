"""Answers to many prompts: a batch of rows, each of which takes the next prompt when its answer has ended.

This is continuous batching (Yu et al., 2022, "Orca: A Distributed Serving System for Transformer-Based Generative
Models", iteration-level scheduling), here with a look at the rows every CHUNK tokens.
"""

import collections
from collections.abc import Callable, Sequence

import jax
import numpy as np

from jaxgpt.inference.decoder import PREFILL, DecodeState, decode_until, init_decoder
from jaxgpt.inference.generate import room_for
from jaxgpt.inference.sampling import SamplingParams, prompt_keys
from jaxgpt.models.base import Cache, Generative

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
    rows = Rows(model, min(batch_size, len(prompts)), max(map(len, prompts)), max_new_tokens, sampling)
    number, idle = np.zeros(len(rows.free), int), 0  # each row's prompt; steps that free rows have waited, in all
    while queue or not rows.free.all():
        if queue and (rows.free.all() or idle >= _cost_of_reading(prompts[queue[0]], sum(~rows.free))):
            for row in np.flatnonzero(rows.free)[: len(queue)]:
                number[row] = queue.popleft()
                rows.start(row, prompts[number[row]], keys[number[row]])
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
      longest: the most tokens of a text before it is continued.
      max_new_tokens, sampling: those of `complete`.

    Attributes:
      free: bool (B,), which rows have no text to continue.
    """

    def __init__(self, model: Generative, B: int, longest: int, max_new_tokens: int, sampling: SamplingParams):
        self._block_size, self._max_new, self._sampling = model.config.block_size, max_new_tokens, sampling
        # Columns behind a full text are read, too.
        room = room_for(self._block_size, longest + max_new_tokens) + PREFILL
        self._model, self._cache = _init_decoder(model, B, room)
        self._tokens, self._keys = np.zeros((B, room), np.int32), np.zeros((B, 2), np.uint32)
        self._length, self._cached, self._num_new = np.ones(B, np.int32), np.zeros(B, np.int32), np.zeros(B, np.int32)
        self.free = np.ones(B, bool)

    def start(self, row: int, prompt: list[int], key: np.ndarray) -> None:
        """Give a text to a row; its new token i is drawn with fold_in(key, i)."""
        self._tokens[row, : len(prompt)], self._keys[row], self._length[row] = prompt, key, len(prompt)
        self._cached[row], self._num_new[row], self.free[row] = 0, 0, False

    def write(self) -> tuple[list[list[int]], int]:
        """Up to CHUNK new tokens of each text, and the steps that this took; rows whose text ends become free."""
        before, num_before = self._length, self._num_new
        until = np.minimum(self._num_new + CHUNK, self._max_new)
        state = DecodeState(
            self._tokens, before, self._cached, num_before, self.free, np.int32(0), np.zeros(0, np.int32)
        )
        state, self._cache = _decode_until(self._model, self._cache, state, self._sampling, self._keys, until)
        values = jax.device_get((state.tokens, state.length, state.num_cached, state.num_new, state.done))
        self._tokens, self._length, self._cached, self._num_new, done = map(np.array, values)
        ends = self._length - (done & ~self.free)  # without the stop token
        new = [row[start:end].tolist() for row, start, end in zip(self._tokens, before, ends, strict=True)]
        self.free = done | (self._num_new >= self._max_new)
        for row in np.flatnonzero(~self.free & (self._length > self._block_size)):  # full: keep the newer half
            kept = self._tokens[row, : self._length[row]][-max(self._block_size // 2, 1) :].copy()
            self._tokens[row, : len(kept)], self._length[row], self._cached[row] = kept, len(kept), 0
        return new, int((self._num_new - num_before).max())


def _decode_rows(
    model: Generative, cache: Cache, state: DecodeState, sampling: SamplingParams, keys: jax.Array, until: jax.Array
) -> tuple[DecodeState, Cache]:
    return decode_until(model, cache, state, sampling, jax.random.wrap_key_data(keys, impl="threefry2x32"), until)


_init_decoder = jax.jit(lambda model, B, room: init_decoder(model, B, room=room), static_argnums=(1, 2))
_decode_until = jax.jit(_decode_rows, donate_argnames="cache")
