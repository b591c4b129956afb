"""Conversations from a file: each line is a message, or begins another conversation, and gets an answer."""

import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

from jaxgpt.commands.chat.conversation import Conversation
from jaxgpt.data.chat import Message, parse_messages
from jaxgpt.data.records import read_jsonl, require_text
from jaxgpt.errors import DataError, JaxgptError
from jaxgpt.inference.answer_text import Answer
from jaxgpt.progress_bar import stage


class Entry(NamedTuple):
    """A line of the file.

    Attributes:
      where: the file and the line.
      messages: those that are new; the last one is to be answered.
      begins: whether they begin a conversation.
    """

    where: str
    messages: list[Message]
    begins: bool


def read_entries(path: Path) -> list[Entry]:
    """The lines of a file of {"content"} or {"messages"}.

    Raises:
      DataError: one is neither, or has nothing to be answered; with its number.
    """
    entries = []
    for line, record in read_jsonl(path):
        where = f"{path}, line {line}"
        if ("content" in record) == ("messages" in record):
            raise DataError(f"{where}: needs a 'content', the next message, or 'messages', another conversation")
        if begins := "messages" in record:
            messages = parse_messages(where, record)
            if messages[-1].role in ("assistant", "system"):
                raise DataError(f"{where}: ends in a message of the {messages[-1].role}; end it in one of the user")
        else:
            messages = [Message("user", require_text(where, record, "content"))]
        entries.append(Entry(where, messages, begins))
    return entries


def answer_entries(
    entries: Sequence[Entry], conversation: Conversation, system: Sequence[Message], answer: Callable[..., Answer]
) -> None:
    """Print the answers, a JSON line each, as soon as they are written.

    Args:
      system: begins each conversation that has no message of the system at its beginning.
      answer: (conversation) to the answer to its last message.
    """
    is_terminal = sys.stdout.isatty()  # which gets escapes for what it would act on
    with stage("answers", len(entries), prints=True) as advance:
        for entry in entries:
            if entry.begins:
                conversation.reset([] if entry.messages[0].role == "system" else system)
            for message in entry.messages:
                conversation.add(message)
            try:
                written = answer(conversation)
            except JaxgptError as error:
                raise DataError(f"{entry.where}: {error}") from None
            conversation.add(Message("assistant", written.content))
            row = {"role": "assistant", "content": written.content, "finish_reason": written.finish_reason}
            print(json.dumps(row, ensure_ascii=is_terminal), flush=True)
            advance(1)
