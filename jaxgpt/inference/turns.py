"""Texts that a model writes in turns with someone else, in one cache: the decoder of `generate`, called once a turn."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jax.sharding import Mesh, PartitionSpec

from jaxgpt.inference.decoder import PREFILL, DecodeState, decode_until, init_decoder
from jaxgpt.inference.sampling import make_sampling_params
from jaxgpt.models.base import Generative
from jaxgpt.models.layers import unstack_layers

SHORT_PREFILL = 4  # columns that are read at a time where no text has more: what is said between two answers is short
ROWS_FIELDS = ("tokens", "length", "num_cached", "num_new", "done", "log_probs")


class Turns:
    """B texts of up to T tokens.

    Args:
      model: whole on each device of `mesh`.
      prompts: token ids, of 1 to T - 1 tokens.
      T: at most the model's block_size.
      end: the token that ends an answer.
      keys: uint32 (B, 2), a key of each text; its new token i is drawn with fold_in(key, i).
      temperature: 0 takes the likeliest token always.
      mesh: devices of this process, which divide the texts; None: the model's own.

    Attributes:
      tokens: int32 (B, W), each text from column 0 on.
      length: int32 (B,), tokens of each.
      log_probs: float32 (B, W), of each token that the model wrote, in nats.
    """

    def __init__(
        self,
        model: Generative,
        prompts: Sequence[Sequence[int]],
        T: int,
        end: int,
        keys: np.ndarray,
        temperature: float = 1.0,
        mesh: Mesh | None = None,
    ):
        B, width = len(prompts), T + PREFILL + 1
        self._T, self._keys = T, np.asarray(keys)
        self._sampling = make_sampling_params(temperature, stop=end)
        self._mesh = mesh
        self._model, self._cache = _init(mesh)(model, B, T)
        self.tokens, self.length = np.zeros((B, width), np.int32), np.zeros(B, np.int32)
        self.log_probs = np.zeros((B, width), np.float32)
        self._cached, self._num_new = np.zeros(B, np.int32), np.zeros(B, np.int32)
        for row, prompt in enumerate(prompts):
            self.read(row, prompt)

    def room(self, row: int) -> int:
        """How many tokens more a text may have."""
        return self._T - int(self.length[row])

    def read(self, row: int, ids: Sequence[int]) -> None:
        """Append tokens that someone else wrote; at most `room`."""
        start = self.length[row]
        self.tokens[row, start : start + len(ids)] = ids
        self.length[row] += len(ids)

    def answer(self, active: np.ndarray, max_new_tokens: int) -> list[list[int]]:
        """The model's next tokens in each text that is active, bool (B,), up to the end token, or as many as given."""
        before = self.length.copy()
        until = self._num_new + np.where(active, np.minimum(max_new_tokens, self._T - before), 0)
        state = DecodeState(
            self.tokens,
            self.length,
            self._cached,
            self._num_new,
            ~active,
            np.int32(0),
            np.zeros(0, np.int32),
            self.log_probs,
        )
        decode = _decoder(self._mesh, self._prefill_size(active))
        arguments = self._sampling, self._keys, until.astype(np.int32)
        state, self._cache = decode(self._model, self._cache, state, *arguments)
        fields = ("tokens", "length", "num_cached", "num_new", "log_probs")
        values = jax.device_get([getattr(state, name) for name in fields])
        self.tokens, self.length, self._cached, self._num_new, self.log_probs = map(np.array, values)
        return [row[start:end].tolist() for row, start, end in zip(self.tokens, before, self.length, strict=True)]

    def _prefill_size(self, active: np.ndarray) -> int:
        """How many columns are read at a time: behind the last token of a text, they must be in the cache, too."""
        unread = int((self.length - 1 - self._cached)[active].max())
        room = self._T - int(self.length[active].max()) + 1
        sizes = (PREFILL, SHORT_PREFILL, 1) if unread > SHORT_PREFILL else (SHORT_PREFILL, 1)
        return next(size for size in sizes if size <= room)


@functools.cache
def _init(mesh: Mesh | None) -> Any:
    """The compiled start of B texts, in equal parts on the devices of a mesh."""

    def init(model: Any, B: int, T: int) -> Any:
        if mesh is None or mesh.size == 1:
            return init_decoder(model, B, room=T)

        def on_device(model: Any) -> Any:
            return init_decoder(model, B // mesh.size, room=T)[1]

        inputs = {"in_specs": PartitionSpec(), "out_specs": PartitionSpec(mesh.axis_names)}
        return unstack_layers(model), jax.shard_map(on_device, mesh=mesh, **inputs, check_vma=False)(model)

    return jax.jit(init, static_argnums=(1, 2))


@functools.cache
def _decoder(mesh: Mesh | None, size: int) -> Any:
    """Their compiled continuation, which reads `size` columns at a time."""

    def decode(model: Any, cache: Any, state: DecodeState, sampling: Any, keys: jax.Array, until: jax.Array) -> Any:
        keys = jax.random.wrap_key_data(keys, impl="threefry2x32")
        return decode_until(model, cache, state, sampling, keys, until, size)

    if mesh is not None and mesh.size > 1:
        rows, whole = PartitionSpec(mesh.axis_names), PartitionSpec()
        fields = dataclasses.fields(DecodeState)
        state = DecodeState(*[rows if field.name in ROWS_FIELDS else whole for field in fields])
        specs = {"in_specs": (whole, rows, state, whole, rows, rows), "out_specs": (state, rows)}
        decode = jax.shard_map(decode, mesh=mesh, **specs, check_vma=False)
    return jax.jit(decode, donate_argnums=1)
