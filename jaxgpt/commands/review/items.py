"""What is judged: the prompts of a file, each under a name that stays the same when the file grows."""

import collections
import dataclasses
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaxgpt.data.chat import Message, parse_messages
from jaxgpt.data.formats import rename_fields
from jaxgpt.data.prompts import FIELDS, load_prompts
from jaxgpt.data.records import is_unicode
from jaxgpt.errors import DataError
from jaxgpt.inference.chat_format import ChatFormat

MAX_TOPIC = 100  # characters


@dataclasses.dataclass(frozen=True)
class Item:
    """A prompt or a conversation that gets two answers.

    Attributes:
      id: 12 hexadecimal digits of its text, and a number behind them where the file has it again.
      where: the file and the line, for errors.
      prompt: a text that the answer continues; None: a conversation.
      messages: the conversation.
      topic: "" if the file has none.
    """

    id: str
    where: str
    prompt: str | None
    messages: tuple[Message, ...]
    topic: str

    @property
    def content(self) -> dict[str, Any]:
        """The prompt, or the messages, as a record has them."""
        if self.prompt is not None:
            return {"prompt": self.prompt}
        return {"messages": [{"role": each.role, "content": each.content} for each in self.messages]}

    def encode(self, chat_format: ChatFormat) -> list[int]:
        """The token ids that a model reads.

        Raises:
          DataError: the model's chat template refuses the messages.
        """
        if self.prompt is not None:
            return chat_format.tokenizer.encode_prompt(self.prompt)
        return chat_format.encode(self.messages)


def load_items(path: Path) -> list[Item]:
    """Read a file of prompts, as `train` reads those that are answered and rewarded, with "topic" where it is a text.

    Raises:
      DataError: a record has no prompt; with its line.
    """
    prompts, items, counts = load_prompts(str(path)), [], collections.Counter[str]()
    for number, record in enumerate(prompts.records):
        where, named = prompts.where(number), rename_fields(record, {})
        field = next(field for field in FIELDS if field in named)
        messages = tuple(parse_messages(where, named, field)) if prompts.is_chat else ()
        prompt = None if prompts.is_chat else prompts.prompts[number]
        topic = named.get("topic") if isinstance(named.get("topic"), str) else ""
        if len(topic) > MAX_TOPIC:
            raise DataError(f"{where}: 'topic' has {len(topic):,} characters, and at most {MAX_TOPIC}; shorten it")
        if not is_unicode(topic):
            raise DataError(f"{where}: 'topic' has half of a surrogate pair, which is no text; write it again")
        text = json.dumps([prompt, messages])
        digits = hashlib.sha256(text.encode()).hexdigest()[:12]
        counts[digits] += 1
        id = digits if counts[digits] == 1 else f"{digits}-{counts[digits]}"
        items.append(Item(id, where, prompt, messages, topic.strip()))
    return items


def encode_items(items: Sequence[Item], name: str, chat_format: ChatFormat, context: int) -> dict[str, tuple[int, ...]]:
    """The token ids that a model reads of each item, by the item's id.

    Args:
      name: the model's, for errors.
      chat_format: the model's, which has its tokenizer.
      context: tokens of a prompt and its answer together, at most.

    Raises:
      DataError: an item leaves no room for an answer, or the model's chat template refuses it.
    """
    ids = {}
    if any(item.prompt is None for item in items):
        chat_format.tokenizer.require_end("conversations")
    for item in items:
        try:
            tokens = item.encode(chat_format)
        except DataError as error:
            raise DataError(f"{item.where}: {error}") from None
        if not 1 <= len(tokens) < context:
            has = f"the prompt has {len(tokens):,} tokens, and {name} takes 1 to {context - 1:,}"
            raise DataError(f"{item.where}: {has}; correct it, or remove the line")
        ids[item.id] = tuple(tokens)
    return ids
