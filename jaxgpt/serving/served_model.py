"""A trained model, ready to write texts for clients: its engine, its tokenizer, and the form of its conversations."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import jax
import numpy as np

from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.inference import placement
from jaxgpt.inference.answer_text import AnswerText
from jaxgpt.inference.chat_format import ChatFormat, find_chat_format
from jaxgpt.inference.sampling import prompt_keys
from jaxgpt.progress_bar import stage
from jaxgpt.runs.fingerprint import fingerprints_by_name
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.serving.engine import Engine
from jaxgpt.serving.token_stream import GenerationRequest, TokenStream


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model that clients may ask.

    Attributes:
      name: the last part of its folder's name, or of its name on the hub.
      fingerprint: of its weights, 16 hexadecimal digits, the same on any device and in any compute dtype.
      described: its shape, compute dtype and device, in words.
      context: tokens of a prompt and its answer together, at most.
    """

    name: str
    fingerprint: str
    described: str
    tokenizer: Tokenizer
    context: int
    chat_format: ChatFormat
    engine: Engine

    def keys(self, seed: int, prompts: Sequence[Sequence[int]]) -> np.ndarray:
        """A key for each prompt, uint32 (B, 2), those of `sample --seed`; equal prompts have different ones."""
        return prompt_keys(jax.random.key(seed), prompts)

    def stream_text(self, request: GenerationRequest, text: AnswerText) -> "TextStream":
        """Begin a request, as Engine.stream does, with the same errors.

        Args:
          text: new; of chat_format.new_text for the answer to a conversation, else AnswerText(tokenizer, stops).
        """
        return TextStream(self.engine.stream(request), text)


class TextStream:
    """The new text of a request, in pieces of at least one character, as an asynchronous iterator.

    All pieces together are `text.content`. It is closed as a TokenStream is.

    Attributes:
      text: what was written so far; a separator at its beginning is in no piece.
      finish_reason: None until it has ended; "stop", by the stop token or by one of the text's stops; or "length", by
        max_new_tokens or by the deadline.
    """

    def __init__(self, tokens: TokenStream, text: AnswerText):
        self._tokens, self.text, self._has_begun = tokens, text, False
        self.finish_reason: Literal["stop", "length"] | None = None

    @property
    def num_new(self) -> int:
        """Tokens that were written, without the stop token."""
        return self._tokens.num_new

    def __aiter__(self) -> "TextStream":
        return self

    async def __anext__(self) -> str:
        """The next piece; raises what a TokenStream raises."""
        while not self.finish_reason:
            ids = await anext(self._tokens, None)
            if ids is None:
                if self._tokens.finish_reason is None:  # it was closed
                    break
                self.finish_reason = self._tokens.finish_reason
                new = self.text.end(is_cut=self.finish_reason == "length")
            else:
                new = self.text.add(ids)
                if self.text.stopped:
                    self.finish_reason = "stop"
                    await self._tokens.aclose()
            if piece := self._without_separator(new):
                return piece
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the request, if it has not ended; at once, and any number of times."""
        await self._tokens.aclose()

    def _without_separator(self, new: str) -> str:
        """Of the first piece, all of the content; what is whitespace so far is held back, for it may be a separator."""
        if self._has_begun:
            return new
        if self.text.text.isspace() and not self.finish_reason:
            return ""
        self._has_begun = bool(self.text.text)
        return self.text.content


def load_served(
    source: WeightsRef, device: str = "auto", dtype: str = "auto", batch_size: int = 8, max_waiting: int = 64
) -> ServedModel:
    """Load a model that can write text, compile its programs, and start its engine.

    Raises:
      CheckpointError, UsageError: as loading and select_compute do.
    """
    chat_format = find_chat_format(source)
    compute, described = placement.select_compute(source.config, device, dtype)
    model = load(source, **compute)
    fingerprint = fingerprint_of(model)
    with stage("compiling"):
        engine = Engine(model, batch_size, max_waiting)
    name = (source.folder.resolve() if source.is_run and source.folder else Path(source.name)).name or source.name
    return ServedModel(name, fingerprint, described, source.tokenizer, engine.context, chat_format, engine)


def fingerprint_of(model: object) -> str:
    """A number for all of a model's weights, 16 hexadecimal digits."""
    by_name = json.dumps(fingerprints_by_name(model), sort_keys=True)
    return hashlib.sha256(by_name.encode()).hexdigest()[:16]
