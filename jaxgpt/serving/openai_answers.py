"""The shape of answers of OpenAI's API, whole and in the chunks of a stream.

Source: OpenAI's API reference, "Completions", "Chat completions" and "Models".
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

OWNER = "jaxgpt"


@dataclasses.dataclass(frozen=True)
class Usage:
    """Tokens that were read and written."""

    prompt_tokens: int
    completion_tokens: int

    def as_json(self) -> dict[str, int]:
        return dataclasses.asdict(self) | {"total_tokens": self.prompt_tokens + self.completion_tokens}


@dataclasses.dataclass(frozen=True)
class Envelope:
    """What all parts of one answer have in common: its id, when it was asked for in Unix seconds, and by whom written.

    Attributes:
      include_usage: whether the last chunk of a stream has the number of tokens; then the others say that they don't.
    """

    is_chat: bool
    id: str
    created: int
    model: str
    fingerprint: str
    include_usage: bool = False

    def whole(self, texts: Sequence[tuple[str, str]], usage: Usage) -> dict[str, Any]:
        """The answer in one piece, of texts with their finish reasons."""
        choices = []
        for index, (text, reason) in enumerate(texts):
            message = {"message": {"role": "assistant", "content": text, "refusal": None}}
            content = message if self.is_chat else {"text": text}
            choices.append({"index": index, **content, "logprobs": None, "finish_reason": reason})
        return self._wrap(choices, "chat.completion" if self.is_chat else "text_completion", usage=usage.as_json())

    def chunk(self, index: int, text: str, reason: str | None = None, is_first: bool = False) -> dict[str, Any]:
        """A piece of text number `index`; with the reason for which it ends, if it does."""
        role = {"role": "assistant"} if is_first else {}
        delta = {"delta": role | ({"content": text} if text or is_first else {})}
        content = delta if self.is_chat else {"text": text}
        return self._chunk([{"index": index, **content, "logprobs": None, "finish_reason": reason}], usage=None)

    def usage_chunk(self, usage: Usage) -> dict[str, Any]:
        """What ends a stream that includes the number of tokens."""
        return self._chunk([], usage=usage.as_json())

    def _chunk(self, choices: list[dict[str, Any]], **usage: Any) -> dict[str, Any]:
        kind = "chat.completion.chunk" if self.is_chat else "text_completion"
        return self._wrap(choices, kind, **(usage if self.include_usage else {}))

    def _wrap(self, choices: list[dict[str, Any]], kind: str, **usage: Any) -> dict[str, Any]:
        facts = {"id": self.id, "object": kind, "created": self.created, "model": self.model}
        return facts | {"system_fingerprint": self.fingerprint, "choices": choices} | usage


def describe_model(name: str, created: int, context: int, max_new_tokens: int, is_chat: bool) -> dict[str, Any]:
    """A model of /v1/models.

    Beyond OpenAI's fields, it says how many tokens the model reads and the server writes at most, and whether the model
    learned conversations.
    """
    facts = {"id": name, "object": "model", "created": created, "owned_by": OWNER}
    return facts | {"max_model_len": context, "max_new_tokens": max_new_tokens, "is_chat": is_chat}
