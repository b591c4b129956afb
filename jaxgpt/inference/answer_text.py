"""An answer as it is written: whole characters, where it ends, and why."""

import codecs
import dataclasses
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from jaxgpt.data.tokenizer import Tokenizer


@dataclasses.dataclass
class Answer:
    """An answer that is over.

    Attributes:
      content: its text, without what the template puts before it again.
      finish_reason: "stop", the model ended it; "length", --max-new-tokens or the context did; or "interrupted".
    """

    content: str
    finish_reason: Literal["stop", "length", "interrupted"]


class AnswerText:
    """The text of an answer as its tokens come: whole characters, and nothing from the first of `stops` on.

    Args:
      stops: texts, none of them empty, that end it; without any, only the model's end token does.
      separator: what the template puts before a content that doesn't begin with whitespace.

    Attributes:
      text: all of it so far.
      stopped: whether one of `stops` was written.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), separator: str = ""):
        self.text, self.stopped, self._separator = "", False, separator
        self._tokenizer, self._stops, self._held = tokenizer, tuple(stops), ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def add(self, ids: Sequence[int]) -> str:
        """The text that is new; what may be a part of a stop, or of a character, is held back until it is known."""
        held = self._held + self._decoder.decode(self._tokenizer.decode_bytes(ids))
        starts = [start for stop in self._stops if (start := held.find(stop)) >= 0]
        if starts:
            held, self.stopped = held[: min(starts)], True
        end = len(held) - (0 if self.stopped else max((_overlap(held, stop) for stop in self._stops), default=0))
        self._held = held[end:]
        self.text += held[:end]
        return held[:end]

    def end(self, is_cut: bool) -> str:
        """What was held back; of a text that was cut, not the bytes of half a character."""
        held = self._held + ("" if is_cut else self._decoder.decode(b"", final=True))
        self.text += held
        return held

    @property
    def content(self) -> str:
        """The text as the content of a message, from which the template makes the same text again."""
        content = self.text.removeprefix(self._separator)
        return content if content[:1].strip() else self.text


def _overlap(text: str, stop: str) -> int:
    """How many characters at the end of a text may begin a stop."""
    return next((n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n])), 0)


def write_answer(
    ids: Iterable[list[int]],
    text: AnswerText,
    max_new_tokens: int,
    show: Callable[[str], object] = lambda text: None,
    interrupted: Callable[[], object] = lambda: False,
) -> Answer:
    """Show an answer as it is written.

    Args:
      ids: its tokens, in pieces, of which some may be empty.
      max_new_tokens: after as many tokens it was cut.
      show: gets each new text; of the first, a space at the beginning is left out.
      interrupted: asked after each piece.
    """
    num_new, reason = 0, "stop"

    def show_new(new: str) -> None:
        if new := new.removeprefix(" ") if text.text == new else new:
            show(new)

    for piece in ids:
        num_new += len(piece)
        show_new(text.add(piece))
        if text.stopped:
            break
        if interrupted():
            reason = "interrupted"
            break
    else:
        reason = "length" if num_new >= max_new_tokens else "stop"
    if not text.stopped:
        show_new(text.end(is_cut=reason != "stop"))
    return Answer(text.content, reason)
