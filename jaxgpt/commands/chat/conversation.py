"""A conversation: its messages, and what of them the model reads."""

import bisect
import dataclasses
import functools
from collections.abc import Callable, Sequence

from jaxgpt import console
from jaxgpt.data.chat import Message
from jaxgpt.errors import UsageError


@dataclasses.dataclass
class Conversation:
    """The messages so far, and what the model reads of them.

    Attributes:
      encode: the token ids of messages up to the assistant's next answer.
      room: the most of them; the rest of the model's context is for the answer.
      messages: all of them.
      first_read: the number of the first message behind the system's that the model reads.
      attempt: how many answers to the last message were discarded.
    """

    encode: Callable[[Sequence[Message]], list[int]]
    room: int
    messages: list[Message] = dataclasses.field(default_factory=list)
    first_read: int = 0
    attempt: int = 0

    @property
    def num_system(self) -> int:
        """How many messages of the system there are before the first of another role."""
        return next((i for i, each in enumerate(self.messages) if each.role != "system"), len(self.messages))

    def reset(self, messages: Sequence[Message]) -> None:
        self.messages, self.first_read, self.attempt = list(messages), 0, 0

    def set_system(self, text: str) -> None:
        """Replace the system prompt; an empty text removes it."""
        self.messages[: self.num_system] = [Message("system", text)] * bool(text)

    def add(self, message: Message) -> None:
        self.messages.append(message)
        if message.role != "assistant":
            self.attempt = 0

    def discard_answer(self) -> bool:
        """Go back to before the last answer; False: there is none."""
        if not self.messages or self.messages[-1].role != "assistant":
            return False
        del self.messages[-1]
        self.attempt += 1
        return True

    def prompt(self) -> list[int]:
        """The token ids of the system prompt and of as many of the newest turns as there is room for.

        A note says when more of them are left out than before. A turn begins with a message of the user.

        Raises:
          UsageError: there is no room for the last turn.
        """
        system, rest = self.messages[: self.num_system], self.messages[self.num_system :]
        encode_from = functools.cache(lambda first: self.encode([*system, *rest[first:]]))

        def fits(first: int) -> bool:
            return len(encode_from(first)) <= self.room

        users = [i for i, each in enumerate(rest) if i > self.first_read and each.role == "user"]
        starts = [self.first_read, *users]
        number = 0 if fits(starts[0]) else bisect.bisect_left(starts, True, lo=1, key=fits)  # a later one is shorter
        if number == len(starts):
            too_long = f"the last message has {len(encode_from(starts[-1])):,} tokens with the system prompt"
            raise UsageError(f"{too_long}, and there is room for {self.room:,} in the model's context; shorten it")
        first = starts[number]
        ids = encode_from(first)
        if not ids:
            raise UsageError("the chat template makes no text of the conversation; say something")
        if first > self.first_read:
            left_out = console.plural(first, "message")
            console.note(f"the model's context is full: it no longer reads the first {left_out}")
        self.first_read = first
        return ids
