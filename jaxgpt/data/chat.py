"""Conversations as text: from the messages of a record, and by the same rules as a template for `transformers`."""

from typing import Any

from jaxgpt.data.base import ExampleKind, Segments
from jaxgpt.data.completions import completion_rows
from jaxgpt.data.records import require_text
from jaxgpt.errors import DataError

ROLES = ("system", "user", "assistant")

# What parse_conversation does, in Jinja; what stands in `generation` is learned.
CHAT_TEMPLATE = """\
{%- set ns = namespace(separator='') %}
{%- for message in messages %}
{%- set role = message['role'] %}
{%- set content = message['content'] %}
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


def parse_conversation(where: str, record: dict[str, Any]) -> Segments:
    """{"messages"} as "System: ...", "User: ...", "Assistant: ...", with an empty line between them.

    The contents stay as they are, and those of the assistant are learned. A blank separates one from the colon unless
    it begins with white space: an answer that the model writes, with its blank, is the same text as a message again.
    An empty message of the system is left out.
    """
    messages = record["messages"]
    if not isinstance(messages, list) or not messages:
        raise DataError(f"{where}: 'messages' must be a list of {{'role', 'content'}}")
    segments: Segments = []
    text = ""  # since the last answer
    for number, message in enumerate(messages, 1):
        role, content = _parse_message(f"{where}, message {number}", message)
        if role == "system" and not content:
            continue
        text += "\n\n" * bool(segments or text) + f"{role.capitalize()}:"
        content = ("" if content[:1] in " \t\r\n" else " ") + content
        if role == "assistant":
            segments += [(text, False), (content, True)]
            text = ""
        else:
            text += content
    if not segments:
        raise DataError(f"{where}: no message of the assistant, and only those are learned; remove the line")
    return [*segments, (text, False)]


def _parse_message(where: str, message: Any) -> tuple[str, str]:
    """Its role and its content."""
    if not isinstance(message, dict) or message.get("role") not in ROLES:
        raise DataError(f"{where}: its role must be {', '.join(ROLES)}")
    return message["role"], require_text(where, message, "content", may_be_empty=True)


KIND = ExampleKind("completions", ("messages",), parse_conversation, completion_rows, is_chat=True)
