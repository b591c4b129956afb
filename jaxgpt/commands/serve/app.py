"""The paths of the server: OpenAI's, the chat page, health and metrics."""

import contextlib
import functools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import TYPE_CHECKING, Any

from jaxgpt.commands.serve.answers import Plan, Writer
from jaxgpt.serving.openai_answers import Envelope, Usage, describe_model
from jaxgpt.serving.openai_api import (
    Limits,
    TextRequest,
    parse_chat,
    parse_completion,
    require_model,
)
from jaxgpt.serving.prometheus import CONTENT_TYPE, Metric, counter, gauge, render_metrics
from jaxgpt.serving.web import (
    EventStream,
    Handler,
    JSONResponse,
    Request,
    Response,
    Route,
    holder_of_token,
    page_response,
    read_json,
    read_page,
)

if TYPE_CHECKING:
    from jaxgpt.serving.served_model import ServedModel


class Api:
    """The server's answers.

    Args:
      served: the model, with its engine.
      key: what requests must have; only /health is for all.
      timeout_s: for each text, as in ServeConfig.
    """

    def __init__(self, served: "ServedModel", key: str, limits: Limits, timeout_s: float):
        self._served, self._limits, self._created = served, limits, int(time.time())
        self._tokens, self._writer = {key: "key"}, Writer(served, limits, timeout_s)
        self._page = read_page("chat.html")

    def routes(self) -> list[Route]:
        return [
            ("GET", "/", self._get_page),
            ("GET", "/health", self._health),
            ("GET", "/metrics", self._with_key(self._metrics)),
            ("GET", "/v1/models", self._with_key(self._models)),
            ("GET", "/v1/models/{name}", self._with_key(self._model)),
            ("POST", "/v1/completions", self._with_key(functools.partial(self._answer, parse_completion))),
            ("POST", "/v1/chat/completions", self._with_key(functools.partial(self._answer, parse_chat))),
        ]

    def _with_key(self, handler: Handler) -> Handler:
        async def handle(request: Request) -> Response:
            holder_of_token(request, self._tokens)
            return await handler(request)

        return handle

    async def _get_page(self, request: Request) -> Response:
        holder_of_token(request, self._tokens, in_url=True)
        return page_response(self._page)

    async def _health(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def _metrics(self, request: Request) -> Response:
        return Response(render_metrics(self._measure()), media_type=CONTENT_TYPE)

    async def _models(self, request: Request) -> Response:
        return JSONResponse({"object": "list", "data": [self._describe()]})

    async def _model(self, request: Request) -> Response:
        require_model(request.path_params["name"], self._limits.model)
        return JSONResponse(self._describe())

    def _describe(self) -> dict[str, Any]:
        served, limits = self._served, self._limits
        is_chat = served.chat_format.is_chat
        return describe_model(limits.model, self._created, served.context, limits.max_new_tokens, is_chat)

    async def _answer(self, parse: Callable[[dict[str, Any], Limits], TextRequest], request: Request) -> Response:
        asked = parse(await read_json(request), self._limits)
        plans = self._writer.plan(asked)
        is_chat = asked.messages is not None
        answer_id = f"{'chatcmpl' if is_chat else 'cmpl'}-{secrets.token_hex(12)}"
        facts = answer_id, int(time.time()), self._limits.model, self._served.fingerprint
        envelope = Envelope(is_chat, *facts, asked.include_usage)
        if asked.stream:
            return EventStream(self._stream(plans, asked, envelope), last="[DONE]")
        return JSONResponse(await self._whole(plans, asked, envelope))

    async def _whole(self, plans: Sequence[Plan], asked: TextRequest, envelope: Envelope) -> dict[str, Any]:
        texts, reasons, num_new = [""] * len(plans), [""] * len(plans), 0
        async with contextlib.aclosing(self._writer.write(plans, envelope.is_chat)) as parts:
            async for part in parts:
                texts[part.index] += part.text
                reasons[part.index] = part.reason or ""
                num_new += part.num_new
        return envelope.whole(list(zip(texts, reasons, strict=True)), _usage(plans, asked, num_new))

    async def _stream(
        self, plans: Sequence[Plan], asked: TextRequest, envelope: Envelope
    ) -> AsyncIterator[dict[str, Any]]:
        begun, num_new = set(), 0
        async with contextlib.aclosing(self._writer.write(plans, envelope.is_chat)) as parts:
            async for part in parts:
                if envelope.is_chat and part.index not in begun:
                    begun.add(part.index)
                    yield envelope.chunk(part.index, "", is_first=True)
                num_new += part.num_new
                if part.text or part.reason:
                    yield envelope.chunk(part.index, part.text, part.reason)
        if asked.include_usage:
            yield envelope.usage_chunk(_usage(plans, asked, num_new))

    def _measure(self) -> list[Metric]:
        stats = self._served.engine.stats
        outcomes = ("finished", "cancelled", "timed_out", "failed", "refused")
        ended = {(("outcome", outcome),): getattr(stats, outcome) for outcome in outcomes}
        return [
            gauge("jaxgpt_texts_running", "Texts that are being written.", stats.running),
            gauge("jaxgpt_texts_waiting", "Texts that wait for their turn.", stats.waiting),
            counter("jaxgpt_texts_total", "Texts that have ended, or were refused.", ended),
            counter("jaxgpt_prompt_tokens_total", "Tokens of prompts that were read.", stats.prompt_tokens),
            counter("jaxgpt_new_tokens_total", "Tokens that were written.", stats.new_tokens),
            counter("jaxgpt_busy_seconds_total", "Seconds in which the model read or wrote.", stats.busy_seconds),
            self._writer.first_text.metric(),
            self._writer.whole_text.metric(),
        ]


def _usage(plans: Sequence[Plan], asked: TextRequest, num_new: int) -> Usage:
    """Each prompt counts once, however many texts it gets."""
    return Usage(sum(len(plan.generation.prompt) for plan in plans[:: asked.n]), num_new)
