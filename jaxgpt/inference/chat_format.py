"""How a model reads a conversation, and where its answer ends: by its own chat template, or by ours."""

import dataclasses
from collections.abc import Sequence

from jaxgpt.data.chat import CHAT_TEMPLATE, Message, encode_until_answer
from jaxgpt.data.chat_template import ChatTemplate, read_chat_template
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.inference.answer_text import AnswerText
from jaxgpt.runs.weights import WeightsRef

NEXT_TURN = "\n\nUser:"  # where a model that learned no end of an answer begins to write the user's next message


@dataclasses.dataclass(frozen=True)
class ChatFormat:
    """The form of a model's conversations.

    Attributes:
      template: the model's own; None: that of data/chat.py.
      is_chat: whether the model was trained on conversations, as far as its files say.
    """

    tokenizer: Tokenizer
    template: ChatTemplate | None = None
    is_chat: bool = True

    def encode(self, messages: Sequence[Message]) -> list[int]:
        """The token ids of a conversation up to the assistant's next answer.

        Raises:
          DataError: the template refuses the messages.
          UsageError: the template needs jinja2, which is not installed.
        """
        if self.template is None:
            return encode_until_answer(messages, self.tokenizer)
        return self.tokenizer.encode_prompt(self.template.render(messages))

    @property
    def stops(self) -> tuple[str, ...]:
        """The texts that end an answer, beside the model's end token."""
        return () if self.is_chat else (NEXT_TURN,)

    @property
    def separator(self) -> str:
        """What stands before a content that doesn't begin with whitespace."""
        return " " if self.template is None else ""

    def new_text(self, stops: Sequence[str] = ()) -> AnswerText:
        """The text of an answer that is to be written, which other texts may end, too."""
        return AnswerText(self.tokenizer, (*self.stops, *stops), self.separator)


def find_chat_format(source: WeightsRef) -> ChatFormat:
    """The form of the conversations of a model that was located.

    Raises:
      DataError: its chat template can't be read.
    """
    folders = [] if source.is_run else [each.folder for each in (source, source.adapted) if each and each.folder]
    template = next(filter(None, map(read_chat_template, folders)), None)
    if template is None:
        return ChatFormat(source.tokenizer, is_chat=source.is_chat)
    is_ours = template.source == CHAT_TEMPLATE  # of an exported run, which needs no jinja2
    return ChatFormat(source.tokenizer, None if is_ours else template)
