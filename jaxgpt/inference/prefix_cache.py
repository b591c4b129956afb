"""One text after another in one cache: what a text has in common with the one before it is not read again."""

import dataclasses
from collections.abc import Iterator, Sequence

import jax
import numpy as np

from jaxgpt.inference.decoder import PREFILL, DecodeState, decode_until, init_decoder
from jaxgpt.inference.generate import room_for
from jaxgpt.inference.sampling import SamplingParams
from jaxgpt.models.base import Generative

PIECE = 8 * PREFILL  # tokens of a prompt that are read before the caller is asked whether to stop


class PrefixCache:
    """A model that continues one text at a time, and remembers the last one.

    A cache that has a column for each token is kept as far as the next text is the same. A recurrent state can't be
    taken back to an earlier token: it is kept where the next text continues all that it has read.
    """

    def __init__(self, model: Generative):
        self._keeps_columns = getattr(model, "KEEPS_COLUMNS", False)
        self._model, self._cache, self._room = model, None, 0
        self._text: list[int] = []  # the tokens that the cache has read
        self.num_read = 0  # tokens of prompts that were read, over all texts

    def stream(
        self, prompt: Sequence[int], max_new_tokens: int, sampling: SamplingParams, key: np.ndarray
    ) -> Iterator[list[int]]:
        """The tokens that follow a prompt, up to the stop token, which is not among them, or until the context is full.

        Args:
          prompt: of 1 to block_size tokens.
          key: uint32 (2,); new token i is drawn with fold_in(key, i), as in generate.stream.

        Yields:
          A list of one token; before the first, an empty list for each PIECE of the prompt that was read. The caller
          may stop after any of them.
        """
        block_size = self._model.config.block_size
        max_new_tokens = min(max_new_tokens, block_size + 1 - len(prompt))
        self._make_room(room_for(block_size, len(prompt) + max_new_tokens))
        start = self._common_prefix(prompt)
        self.num_read += len(prompt) - start
        keys = jax.random.wrap_key_data(key[None], impl="threefry2x32")
        state = _init_state(prompt, start, self._room)
        for end in range(start + PIECE + 1, len(prompt), PIECE):  # the newest token is read when the next is drawn
            piece = dataclasses.replace(state, length=np.array([end], np.int32))
            state = dataclasses.replace(self._decode(piece, sampling, keys, 0), length=state.length)
            yield []
        for until in range(1, max_new_tokens + 1):
            state = self._decode(state, sampling, keys, until)
            if bool(state.done[0]):
                return
            yield [int(state.tokens[0, int(state.length[0]) - 1])]

    def _decode(self, state: DecodeState, sampling: SamplingParams, keys: jax.Array, until: int) -> DecodeState:
        state, self._cache = _decode_until(self._model, self._cache, state, sampling, keys, np.int32(until))
        state = jax.device_get(state)
        self._text = state.tokens[0, : state.length[0] - 1].tolist()
        return state

    def _make_room(self, room: int) -> None:
        """A cache for texts of so many tokens; a larger one has read nothing."""
        if room <= self._room:
            return
        self._cache = None  # freed first
        if self._room:
            self._cache = self._model.init_cache(1, room)
        else:
            self._model, self._cache = _init_decoder(self._model, 1, False, room)
        self._room, self._text = room, []

    def _common_prefix(self, prompt: Sequence[int]) -> int:
        """How many of the prompt's tokens need not be read again; not the last, which gives the next one's logits."""
        pairs = zip(self._text, prompt[:-1], strict=False)
        common = next((i for i, (old, new) in enumerate(pairs) if old != new), min(len(self._text), len(prompt) - 1))
        if self._keeps_columns:
            return common // PREFILL * PREFILL  # so that no read of PREFILL columns exceeds the cache
        return common if common == len(self._text) else 0


def _init_state(prompt: Sequence[int], num_cached: int, room: int) -> DecodeState:
    tokens = np.zeros((1, -(-room // PREFILL) * PREFILL + PREFILL), np.int32)
    tokens[0, : len(prompt)] = prompt
    none = np.zeros(1, np.int32)
    length = np.array([len(prompt)], np.int32)
    return DecodeState(tokens, length, np.int32(num_cached), none, none > 0, np.int32(0), np.zeros(0, np.int32))


_init_decoder = jax.jit(init_decoder, static_argnums=(1, 2, 3))
_decode_until = jax.jit(decode_until, donate_argnames="cache")  # the cache is written in place
