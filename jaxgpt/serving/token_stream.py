"""What a client asks of a model, and the tokens that it gets, piece by piece."""

import asyncio
import dataclasses
from typing import Literal

import numpy as np

from jaxgpt.errors import JaxgptError, UsageError
from jaxgpt.inference.sampling import SamplingParams, make_sampling_params


class QueueFullError(JaxgptError):
    """The queue is full: try again later."""


class DeadlineError(JaxgptError):
    """The deadline passed before the first token was written."""


class EngineError(JaxgptError):
    """The model failed, such as for want of memory, or the engine was closed."""


@dataclasses.dataclass(frozen=True)
class GenerationRequest:
    """A text to continue.

    Attributes:
      prompt: token ids, at least one; with max_new_tokens no more than the model's context.
      max_new_tokens: at least 1.
      temperature, top_k, top_p: as in `generate`.
      stop: the id of the token that ends the text; None: no token does.
      key: uint32 (2,), as `sampling.prompt_keys` makes them; None: zeros, enough for temperature 0.
      deadline_s: seconds from the request on, after which the text is cut; None: no limit.
    """

    prompt: tuple[int, ...]
    max_new_tokens: int
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    stop: int | None = None
    key: np.ndarray | None = None
    deadline_s: float | None = None

    def sampling(self) -> SamplingParams:
        """Its settings; raises UsageError for one that is out of range."""
        return make_sampling_params(self.temperature, self.top_k, self.top_p, self.stop)


def check_request(request: GenerationRequest, context: int, vocab_size: int) -> None:
    """Raise UsageError where a model of this context and vocabulary can't do what a request asks for."""
    n, new = len(request.prompt), request.max_new_tokens
    if n < 1 or new < 1:
        raise UsageError("a request needs a prompt of at least one token, and at least one new token")
    if n + new > context:
        most = f"the model's context of {context:,} tokens"
        raise UsageError(f"{n:,} tokens of the prompt and {new:,} new ones are more than {most}")
    if not all(0 <= token < vocab_size for token in request.prompt):
        raise UsageError(f"the prompt has a token beyond the model's vocabulary, ids 0 to {vocab_size - 1:,}")
    request.sampling()


class TokenStream:
    """The new token ids of a request, in pieces, as an asynchronous iterator; not from several tasks at once.

    Close it with `aclose` when the client leaves, such as by contextlib.aclosing: its place becomes free at the next
    look at the clients. A stream that nobody refers to any more is closed, too.

    Attributes:
      request: what was asked for.
      num_new: tokens so far.
      finish_reason: None until it has ended; "stop", by the stop token, which is not among the pieces; or "length", by
        max_new_tokens or by the deadline; before the first token, DeadlineError is raised instead.
    """

    def __init__(self, request: GenerationRequest, job: "Job"):
        self.request, self.num_new, self._job = request, 0, job
        self.finish_reason: Literal["stop", "length"] | None = None

    def __aiter__(self) -> "TokenStream":
        return self

    async def __anext__(self) -> list[int]:
        """The next piece, of at least one token.

        Raises:
          DeadlineError, EngineError.
        """
        if self._job.is_closed or self.finish_reason:
            raise StopAsyncIteration
        item = await self._job.items.get()
        if isinstance(item, list):
            self.num_new += len(item)
            return item
        self._job.is_closed = True
        if isinstance(item, Exception):
            raise item
        self.finish_reason = item
        raise StopAsyncIteration

    async def aclose(self) -> None:
        """End the request, if it has not ended; at once, and any number of times."""
        self._job.is_closed = True

    def __del__(self) -> None:
        self._job.is_closed = True


@dataclasses.dataclass(eq=False)
class Job:
    """A request on its way: made by its client's task, whose loop gets the items that the engine's thread puts."""

    request: GenerationRequest
    loop: asyncio.AbstractEventLoop
    deadline: float  # of time.monotonic; inf: none
    items: asyncio.Queue = dataclasses.field(default_factory=asyncio.Queue)
    is_closed: bool = False  # set by the client's task: no more is read
    has_begun: bool = False  # its prompt was read, and its first token written
    num_new: int = 0
