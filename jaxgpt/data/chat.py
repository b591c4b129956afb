"""Conversations as text: from the messages of a record, and by the same rules as a template for `transformers`."""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from jaxgpt.data.base import ExampleKind, Segments
from jaxgpt.data.completions import pack_rows
from jaxgpt.data.records import require_text
from jaxgpt.data.tokenized import encode_segments
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError

ROLES = {  # as records have them, with those of ShareGPT: the role that each is in the text
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
}

# What parse_conversation does, in Jinja; what stands in `generation` is learned.
CHAT_TEMPLATE = """\
{%- set ns = namespace(separator='') %}
{%- for message in messages %}
{%- set role = 'system' if message['role'] == 'developer' else message['role'] %}
{%- set parts = message['content'] %}
{%- set content = parts if parts is string else parts | map(attribute='text') | join %}
{%- if content or role != 'system' %}
{{- ns.separator + role | capitalize + ':' }}
{%- set ns.separator = '\\n\\n' %}
{%- set content = ('' if content[:1] in ' \\t\\r\\n' else ' ') + content %}
{%- if role == 'assistant' %}
{%- generation %}{{ content + eos_token }}{% endgeneration %}
{%- else %}
{{- content }}
{%- endif %}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ ns.separator + 'Assistant:' }}{% endif %}"""


class Message(NamedTuple):
    """A message of a conversation.

    Attributes:
      role: system, user, assistant or tool.
      content: its text.
      is_learned: of the assistant's; None: it has the weight 0.
    """

    role: str
    content: str
    is_learned: bool | None = True


def parse_conversation(where: str, record: dict[str, Any], field: str = "messages") -> Segments:
    """A field's messages as "System: ...", "User: ...", "Assistant: ...", with an empty line between them.

    The contents stay as they are, and those of the assistant are learned. A space separates one from the colon unless
    it begins with whitespace: an answer that the model writes, with its space, is the same text as a message again.
    An empty message of the system is left out.
    """
    segments = _join(parse_messages(where, record, field))
    if not any(is_learned for _, is_learned in segments):
        answered = len(segments) > 1
        what = "every message of the assistant has the weight 0" if answered else "no message of the assistant"
        raise DataError(f"{where}: {what}, and only those are learned; remove the line")
    return segments


def parse_messages(where: str, record: dict[str, Any], field: str = "messages") -> list[Message]:
    """A field's messages.

    Two other fields count: ShareGPT's "system" of the record, if it is a text, is the first message, unless the
    messages begin with one of the system; and OpenAI's "weight" of an answer, if it is 0, keeps it from being learned.

    Raises:
      DataError: one is no message, or there is none; with its number.
    """
    messages = record[field]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: {field!r} must be a list of {{'role', 'content'}} or {{'from', 'value'}}")
    if has_system := isinstance(record.get("system"), str) and _role_of(messages[0]) != "system":
        messages = [{"role": "system", "content": require_text(where, record, "system", may_be_empty=True)}, *messages]
    return [_parse_message(f"{where}, message {number}", each) for number, each in enumerate(messages, 1 - has_system)]


def encode_until_answer(messages: Sequence[Message], tokenizer: Tokenizer) -> list[int]:
    """The token ids of a conversation up to where the assistant answers: those that training has there."""
    *segments, _, _ = _join([*messages, Message("assistant", "")])
    return np.concatenate([ids for ids, _ in encode_segments(segments, tokenizer)]).tolist()


def _join(messages: Sequence[Message]) -> Segments:
    segments: Segments = []
    text = ""  # since the last answer
    for role, content, is_learned in messages:
        if role == "system" and not content:
            continue
        text += "\n\n" * bool(segments or text) + f"{role.capitalize()}:"
        content = ("" if content[:1] in " \t\r\n" else " ") + content
        if role == "assistant":
            segments += [(text, False), (content, is_learned)]
            text = ""
        else:
            text += content
    return [*segments, (text, False)]


def is_answer(message: Any) -> bool:
    """Whether a message is the assistant's."""
    return _role_of(message) == "assistant"


def _role_of(message: Any) -> str | None:
    """The role that a message has in the text; None: it has none."""
    role = message.get("role", message.get("from")) if isinstance(message, dict) else None
    return ROLES.get(role) if isinstance(role, str) else None


def _parse_message(where: str, message: Any) -> Message:
    """The message of {"role", "content"} or {"from", "value"}; a content's parts are put together."""
    if not isinstance(message, dict):
        raise DataError(f"{where}: must be an object, {{'role', 'content'}} or {{'from', 'value'}}")
    role, content = ("from", "value") if "from" in message and "role" not in message else ("role", "content")
    if message.get(role) not in list(ROLES):  # a list: the role may be anything
        raise DataError(f"{where}: its {role!r} must be {', '.join(ROLES)}")
    if message.get("tool_calls"):
        raise DataError(f"{where}: 'tool_calls' are not read; write them into its {content!r}, or remove them")
    parts = message.get(content)
    if isinstance(parts, list):
        if not all(isinstance(part, dict) and isinstance(part.get("text"), str) for part in parts):
            raise DataError(f"{where}: {content!r} has a part without a 'text', and only texts are read; remove it")
        text = "".join(part["text"] for part in parts)
    else:
        text = require_text(where, message, content, may_be_empty=True)
    is_assistant = ROLES[message[role]] == "assistant"
    return Message(ROLES[message[role]], text, _is_learned(where, message) if is_assistant else True)


def _is_learned(where: str, message: dict[str, Any]) -> bool | None:
    """True, or None if the answer's weight is 0: base.Segments has that."""
    weight = message.get("weight")
    if weight not in (None, 0, 1):
        raise DataError(f"{where}: 'weight' must be 0 or 1; correct it, or remove it")
    return None if weight == 0 else True


def parse_next_answer(where: str, record: dict[str, Any], field: str = "completion") -> Segments:
    """{"messages", field}: the answer to a conversation, in whose text only this one, which is the last, is learned."""
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}} or {{'from', 'value'}}")
    answer = {"role": "assistant", "content": require_text(where, record, field, may_be_empty=True)}
    *earlier, learned, _ = parse_conversation(where, record | {"messages": [*messages, answer]})
    return [*((text, False if is_learned is False else None) for text, is_learned in earlier), learned]


def parse_answered(where: str, record: dict[str, Any]) -> Segments:
    """{"messages", "completion"}, of which the messages end before an answer."""
    messages = record["messages"]
    if isinstance(messages, list) and messages and is_answer(messages[-1]):
        raise DataError(f"{where}: 'messages' end in an answer, and 'completion' is another; remove one of them")
    return parse_next_answer(where, record)


def _kind(field: str) -> ExampleKind:
    parse = functools.partial(parse_conversation, field=field)
    return ExampleKind("completions", (field,), parse, pack_rows, is_chat=True)


KINDS = [
    _kind("messages"),
    _kind("conversations"),
    ExampleKind("completions", ("messages", "completion"), parse_answered, pack_rows, is_chat=True),
]
