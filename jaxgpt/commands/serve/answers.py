"""From a checked request to its answer: token ids that fit, and texts that are written together."""

import asyncio
import contextlib
import dataclasses
import functools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING

from jaxgpt.errors import JaxgptError
from jaxgpt.inference.answer_text import AnswerText
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.openai_api import Limits, TextRequest
from jaxgpt.serving.prometheus import Histogram
from jaxgpt.serving.token_stream import DeadlineError, EngineError, GenerationRequest, QueueFullError

if TYPE_CHECKING:
    from jaxgpt.serving.served_model import ServedModel, TextStream

DEFAULT_MAX_TOKENS = 16  # of a completion, as OpenAI has it; an answer of a chat may be as long as the server allows
RETRY = {"retry-after": "1"}  # seconds


@dataclasses.dataclass(frozen=True)
class Part:
    """What is new of text number `index`, from `num_new` tokens; `reason`: why it ended, None: it has not."""

    index: int
    text: str
    num_new: int = 0
    reason: str | None = None


@dataclasses.dataclass(frozen=True)
class Plan:
    """A text to write: what the engine reads, what precedes it in the answer, and how its tokens become text."""

    generation: GenerationRequest
    echoed: str
    stops: tuple[str, ...]


class Writer:
    """Writes what requests ask for.

    Attributes:
      first_text, whole_text: how long they took.
    """

    def __init__(self, served: "ServedModel", limits: Limits, timeout_s: float):
        self._served, self._limits, self._timeout_s = served, limits, timeout_s
        self.first_text = Histogram("jaxgpt_first_text_seconds", "From a request to the first characters of a text.")
        self.whole_text = Histogram("jaxgpt_text_seconds", "From a request to the end of a text.")

    def plan(self, request: TextRequest) -> list[Plan]:
        """The texts of a request, n for each prompt.

        Raises:
          HttpError: a prompt does not fit into the model's context with the tokens that are asked for.
        """
        prompts = [self._encode(request, each) for each in request.prompts or ("",)]
        lengths = [self._length(request, len(ids)) for ids in prompts]
        seed = secrets.randbelow(2**31) if request.seed is None else request.seed
        repeated = [number for number in range(len(prompts)) for _ in range(request.n)]
        keys = self._served.keys(seed, [prompts[number] for number in repeated])
        sampling = {"temperature": request.temperature, "top_p": request.top_p, "top_k": request.top_k}
        sampling |= {"stop": self._served.tokenizer.end, "deadline_s": self._timeout_s}
        return [
            Plan(
                GenerationRequest(tuple(prompts[number]), lengths[number], key=key, **sampling),
                self._echo(request.prompts[number]) if request.echo else "",
                request.stops,
            )
            for number, key in zip(repeated, keys, strict=True)
        ]

    def _encode(self, request: TextRequest, prompt: str | tuple[int, ...]) -> list[int]:
        served = self._served
        if request.messages is not None:
            self._require_short(sum(len(each.content.encode()) for each in request.messages), "messages")
            ids = self._tokenize(functools.partial(served.chat_format.encode, request.messages), "messages")
        elif isinstance(prompt, str):
            self._require_short(len(prompt.encode()), "prompt")
            ids = self._tokenize(functools.partial(served.tokenizer.encode_prompt, prompt), "prompt")
        else:
            ids = list(prompt)
            if max(ids) >= served.tokenizer.vocab_size:
                most = f"the vocabulary has {served.tokenizer.vocab_size:,} tokens"
                raise HttpError(400, f"'prompt' has the token id {max(ids):,}, and {most}", param="prompt")
        if not ids and served.tokenizer.end is None:
            raise HttpError(
                400, "the prompt is empty, and the tokenizer has no token that begins a document", param="prompt"
            )
        return ids or [served.tokenizer.end]

    def _require_short(self, num_bytes: int, param: str) -> None:
        """Refuse without tokenizing it a text that can't fit, however long its tokens are."""
        if num_bytes > self._served.context * self._longest_token:
            raise self._too_long(f"a prompt of {num_bytes:,} bytes does not fit", param)

    @functools.cached_property
    def _longest_token(self) -> int:
        tokenizer = self._served.tokenizer  # a token is at most as long as its text, or as it is spelled
        return max(int(tokenizer.byte_lengths.max()), len(tokenizer.end_text), 1)

    def _tokenize(self, encode: Callable[[], list[int]], param: str) -> list[int]:
        try:
            return encode()
        except JaxgptError as error:  # letters that the vocabulary lacks; messages that the template refuses
            template = self._served.chat_format.template
            path = f"{template.path}: " if template else ""  # which is no client's affair
            message = str(error).removeprefix(path)
            raise HttpError(400, message, param=param) from None

    def _length(self, request: TextRequest, num_prompt: int) -> int:
        """The most new tokens of a text behind so many."""
        is_chat, most = request.messages is not None, self._limits.max_new_tokens
        room = self._served.context - num_prompt
        wanted = request.max_tokens or max(1, min(room, most if is_chat else min(most, DEFAULT_MAX_TOKENS)))
        if wanted > room:
            total = f"{num_prompt + wanted:,} tokens, {num_prompt:,} of the prompt and {wanted:,} new ones, do not fit"
            raise self._too_long(total, "messages" if is_chat else "prompt")
        return wanted

    def _too_long(self, what: str, param: str) -> HttpError:
        message = f"{what} into the model's context of {self._served.context:,}; shorten the prompt, or 'max_tokens'"
        return HttpError(400, message, "context_length_exceeded", param)

    def _echo(self, prompt: str | tuple[int, ...]) -> str:
        return prompt if isinstance(prompt, str) else self._served.tokenizer.decode(prompt)

    async def write(self, plans: Sequence[Plan], is_chat: bool) -> AsyncIterator[Part]:
        """The parts of texts as they come; closing it frees their places.

        Raises:
          HttpError: there is no place for all of them, or one failed.
        """
        parts: asyncio.Queue[Part | Exception] = asyncio.Queue()

        async def write_one(index: int, plan: Plan, pieces: "TextStream") -> None:
            try:
                async for part in self._write_text(index, plan, pieces):
                    parts.put_nowait(part)
            except Exception as error:
                parts.put_nowait(error)

        async with contextlib.AsyncExitStack() as stack:
            streams = [self._begin(plan, is_chat, stack) for plan in plans]
            both = zip(plans, streams, strict=True)
            tasks = [asyncio.ensure_future(write_one(index, *each)) for index, each in enumerate(both)]
            stack.callback(lambda: [task.cancel() for task in tasks])
            num_open = len(tasks)
            while num_open:
                part = await parts.get()
                if isinstance(part, Exception):
                    raise part
                num_open -= part.reason is not None
                yield part

    def _begin(self, plan: Plan, is_chat: bool, stack: contextlib.AsyncExitStack) -> "TextStream":
        served = self._served
        text = served.chat_format.new_text(plan.stops) if is_chat else AnswerText(served.tokenizer, plan.stops)
        try:
            stream = served.stream_text(plan.generation, text)
        except QueueFullError as error:
            raise HttpError(429, str(error), "rate_limit_exceeded", headers=RETRY) from None
        stack.push_async_callback(stream.aclose)
        return stream

    async def _write_text(self, index: int, plan: Plan, pieces: "TextStream") -> AsyncIterator[Part]:
        """One text, whose last part has the reason for its end."""
        began, to_echo, is_first = time.monotonic(), plan.echoed, True
        try:
            async for new in pieces:
                if is_first:
                    self.first_text.observe(time.monotonic() - began)
                yield Part(index, to_echo + new)
                to_echo, is_first = "", False
        except DeadlineError:
            late = f"no token was written within {self._timeout_s:g} seconds; try again later"
            raise HttpError(503, late, "timeout", headers=RETRY) from None
        except EngineError as error:
            raise HttpError(500, str(error), "engine_error") from None
        self.whole_text.observe(time.monotonic() - began)
        yield Part(index, to_echo, pieces.num_new, pieces.finish_reason)
