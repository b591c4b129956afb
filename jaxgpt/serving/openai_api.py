"""What a request to OpenAI's API asks for, checked. It needs no server and no model.

Source: OpenAI's API reference, "Completions" and "Chat completions".
"""

import dataclasses
import json
from typing import Any

from jaxgpt.data.chat import Message, parse_messages
from jaxgpt.data.records import is_unicode
from jaxgpt.errors import DataError
from jaxgpt.serving.guard import HttpError

MAX_STOPS, MAX_STOP_CHARS = 4, 200

# OpenAI's parameters that have no effect here. Each is refused, but for null and these values, which change nothing.
UNSUPPORTED: dict[str, tuple[Any, ...]] = {
    "audio": (),
    "best_of": (1,),
    "frequency_penalty": (0,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "logprobs": (False,),
    "modalities": (["text"],),
    "moderation": (),
    "parallel_tool_calls": (True, False),
    "prediction": (),
    "presence_penalty": (0,),
    "reasoning_effort": ("none",),
    "response_format": ({"type": "text"},),
    "service_tier": ("auto", "default"),
    "store": (False,),
    "suffix": ("",),
    "tool_choice": ("none", "auto"),
    "tools": ([],),
    "top_logprobs": (0,),
    "verbosity": ("medium",),
    "web_search_options": (),
}
# These say who asks and how to cache, and no answer depends on them.
IGNORED = {
    *("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention", "safety_identifier", "user"),
}
SHARED = {
    *("model", "n", "max_tokens", "temperature", "top_p", "top_k", "stop", "seed", "stream", "stream_options"),
}
OF_COMPLETIONS = SHARED | {"prompt", "echo"}
OF_CHAT = SHARED | {"messages", "max_completion_tokens"}


@dataclasses.dataclass(frozen=True)
class Limits:
    """What a server allows: its model's name, the most texts of one request, and the most new tokens of each."""

    model: str
    max_texts: int
    max_new_tokens: int


@dataclasses.dataclass(frozen=True)
class TextRequest:
    """A request for texts.

    Attributes:
      prompts: of completions, each a text or token ids; an empty one begins a document.
      messages: of a chat, whose next message is asked for; None: it is no chat.
      n: texts for each prompt.
      max_tokens: new tokens of each text; None: the request does not say.
      temperature, top_p, top_k: as in `generate`.
      stops: texts that end an answer, and are no part of it.
      seed: from 0 to 2**31 - 1; None: another one each time.
      echo: whether a text begins with its prompt.
      stream: whether the answer is sent while it is written; `include_usage`: and at its end the number of tokens.
    """

    prompts: tuple[str | tuple[int, ...], ...]
    messages: tuple[Message, ...] | None
    n: int
    max_tokens: int | None
    temperature: float
    top_p: float
    top_k: int
    stops: tuple[str, ...]
    seed: int | None
    echo: bool
    stream: bool
    include_usage: bool

    @property
    def num_texts(self) -> int:
        return self.n * max(1, len(self.prompts))


def parse_completion(body: dict[str, Any], limits: Limits) -> TextRequest:
    """The body of a request to /v1/completions.

    Raises:
      HttpError: a parameter is wrong, or has no effect here.
    """
    _refuse_unknown(body, OF_COMPLETIONS)
    prompts = _parse_prompts(body.get("prompt"))
    max_tokens = _read_int(body, "max_tokens", None, 1, limits.max_new_tokens)
    return _parse_shared(
        body, limits, prompts=prompts, messages=None, max_tokens=max_tokens, echo=_read_bool(body, "echo")
    )


def parse_chat(body: dict[str, Any], limits: Limits) -> TextRequest:
    """The body of a request to /v1/chat/completions; errors as `parse_completion`."""
    _refuse_unknown(body, OF_CHAT)
    if body.get("messages") is None:
        raise HttpError(400, "'messages' is missing: give a list of {'role', 'content'}", param="messages")
    try:
        messages = parse_messages("messages", {"messages": body["messages"]})
    except DataError as error:
        raise HttpError(400, str(error).removeprefix("messages: "), param="messages") from None
    for message in messages:
        _require_unicode(message.content, "messages")
    given = [name for name in ("max_completion_tokens", "max_tokens") if body.get(name) is not None]
    if len(given) == 2:
        raise HttpError(
            400, "give one of 'max_completion_tokens' and 'max_tokens', which mean the same", param=given[1]
        )
    max_tokens = _read_int(body, given[0], None, 1, limits.max_new_tokens) if given else None
    return _parse_shared(body, limits, prompts=(), messages=tuple(messages), max_tokens=max_tokens, echo=False)


def _parse_shared(body: dict[str, Any], limits: Limits, **fields: Any) -> TextRequest:
    """What both have in common, with the `fields` that they do not."""
    model = body.get("model")
    if not isinstance(model, str):
        raise HttpError(400, f"'model' must be the model's name, here {limits.model!r}", param="model")
    require_model(model, limits.model)
    stream = _read_bool(body, "stream")
    seed = _read_seed(body)
    request = TextRequest(
        n=_read_int(body, "n", 1, 1, limits.max_texts),
        temperature=_read_float(body, "temperature", 1.0, 0, 2),
        top_p=max(_read_float(body, "top_p", 1.0, 0, 1), 1e-9),  # the likeliest alone has more
        top_k=max(_read_int(body, "top_k", 0, -1, 2**31 - 1), 0),  # -1 is 0 of other servers: all
        stops=_parse_stops(body.get("stop")),
        seed=None if seed is None else seed % 2**31,
        stream=stream,
        include_usage=_parse_stream_options(body.get("stream_options"), stream),
        **fields,
    )
    if request.num_texts > limits.max_texts:
        what = f"{len(request.prompts):,} prompts with 'n' {request.n:,} are {request.num_texts:,} texts"
        raise HttpError(400, f"{what}, and one request may ask for {limits.max_texts:,}", param="n")
    return request


def require_model(model: str, served: str) -> None:
    """Raise HttpError, with the status 404, for the name of a model that is not the server's."""
    if model != served:
        message = f"there is no model {_show(model)} here, only {served!r}"
        raise HttpError(404, message, "model_not_found", "model")


def _refuse_unknown(body: dict[str, Any], known: set[str]) -> None:
    for name, value in body.items():
        if value is None or name in known or name in IGNORED:
            continue
        if name not in UNSUPPORTED:
            raise HttpError(400, f"there is no parameter {_show(name)}; leave it out", param=_shorten(name))
        allowed = (*UNSUPPORTED[name], *([body.get("n")] if name == "best_of" else []))
        if not any(value == each and isinstance(value, bool) == isinstance(each, bool) for each in allowed):
            but = "".join(f", or send {json.dumps(each)}" for each in UNSUPPORTED[name][:1])
            raise HttpError(400, f"{name!r} is not supported; leave it out{but}", "unsupported_parameter", name)


def _parse_prompts(value: Any) -> tuple[str | tuple[int, ...], ...]:
    """A text, token ids, or a list of texts or of token ids; an empty text where there is none."""
    if value is None:
        return ("",)
    if isinstance(value, str) or (isinstance(value, list) and value and all(map(_is_id, value))):
        value = [value]
    if not isinstance(value, list) or not value:
        raise HttpError(400, "'prompt' must be a text, a list of token ids, or a list of either", param="prompt")
    for each in value:
        if isinstance(each, str):
            _require_unicode(each, "prompt")
        elif not isinstance(each, list) or not each or not all(map(_is_id, each)):
            raise HttpError(
                400, "each 'prompt' must be a text, or a list of one or more token ids from 0", param="prompt"
            )
    return tuple(each if isinstance(each, str) else tuple(each) for each in value)


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**31


def _parse_stops(value: Any) -> tuple[str, ...]:
    stops = [] if value is None else value if isinstance(value, list) else [value]
    if len(stops) > MAX_STOPS or not all(isinstance(each, str) and 0 < len(each) <= MAX_STOP_CHARS for each in stops):
        raise HttpError(400, f"'stop' must be 1 to {MAX_STOPS} texts of 1 to {MAX_STOP_CHARS} characters", param="stop")
    for each in stops:
        _require_unicode(each, "stop")
    return tuple(stops)


def _parse_stream_options(value: Any, stream: bool) -> bool:
    """Whether the number of tokens is sent at the end."""
    if value is None:
        return False
    if not isinstance(value, dict) or not value.keys() <= {"include_usage", "include_obfuscation"}:
        raise HttpError(400, "'stream_options' must be an object with 'include_usage'", param="stream_options")
    if not stream:
        raise HttpError(400, "'stream_options' needs 'stream': true", param="stream_options")
    if _read_bool(value, "include_obfuscation"):
        raise HttpError(400, "'include_obfuscation' is not supported; leave it out", param="stream_options")
    return _read_bool(value, "include_usage")


def _read_int(body: dict[str, Any], name: str, default: int | None, lowest: int, highest: int) -> Any:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int) or not lowest <= value <= highest:
        wanted = f"an integer from {lowest:,} to {highest:,}"
        raise HttpError(400, f"{name!r} must be {wanted}, and is {_show(value)}", param=name)
    return value


def _read_seed(body: dict[str, Any]) -> int | None:
    """A seed of 64 bits; json_file.parse_json makes a float of one of 19 digits or more, which is as good."""
    value = body.get("seed")
    if isinstance(value, float) and 1e17 <= abs(value) < 2**64:
        return int(value) // 2**11  # a float's last bits are 0 there, and would make many seeds one
    return _read_int(body, "seed", None, -(2**63), 2**63 - 1)


def _read_float(body: dict[str, Any], name: str, default: float, lowest: float, highest: float) -> float:
    value = body.get(name)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | float) or not lowest <= value <= highest:
        raise HttpError(400, f"{name!r} must be a number from {lowest} to {highest}, and is {_show(value)}", param=name)
    return float(value)


def _read_bool(body: dict[str, Any], name: str) -> bool:
    value = body.get(name)
    if value is not None and not isinstance(value, bool):
        raise HttpError(400, f"{name!r} must be true or false, and is {_show(value)}", param=name)
    return bool(value)


def _require_unicode(text: str, param: str) -> None:
    if not is_unicode(text):  # JSON's \ud800 alone
        raise HttpError(400, f"{param!r} has half of a surrogate pair, which is no character; remove it", param=param)


def _show(value: Any) -> str:
    """A value of the request in an error: a line of JSON, and of a long one its beginning."""
    return _shorten(json.dumps(value))


def _shorten(text: str) -> str:
    return text if len(text) <= 40 else text[:37] + "..."
