"""What a page sends when somebody judges: checked, and made a judgment."""

import dataclasses
import datetime
import math
from collections.abc import Sequence
from typing import Any

from jaxgpt.commands.review.answers import Pair
from jaxgpt.commands.review.items import MAX_TOPIC, Item
from jaxgpt.commands.review.judgments import CHOICES, CLICK_ID, Record
from jaxgpt.data.records import is_unicode
from jaxgpt.serving.guard import HttpError

MAX_REMARK, MAX_EDIT = 10_000, 200_000  # characters
MAX_SECONDS = 86_400


@dataclasses.dataclass(frozen=True)
class Click:
    """A click; the fields are those of POST /api/judgments in server.py."""

    id: str
    item: str
    shown: str
    choice: int | str
    edit: str | None
    topic: str | None
    remark: str
    seconds: float | None

    @property
    def place(self) -> int | None:
        """0 or 1: the place of the answer that was chosen; None: none was."""
        return self.choice - 1 if isinstance(self.choice, int) else None


def parse_click(body: dict[str, Any]) -> Click:
    """The click that a request's JSON has.

    Raises:
      HttpError: 400, a field is missing or wrong.
    """
    id, choice = parse_id(body), body.get("choice")
    if type(choice) not in (int, str) or choice not in CHOICES:
        raise HttpError(400, "'choice' must be 1, 2, 'tie' or 'skip'", param="choice")
    edit = None if body.get("edit") is None else _text(body, "edit", MAX_EDIT)
    if edit is not None and isinstance(choice, str):
        raise HttpError(400, "'edit' changes the answer at 'choice', which must be 1 or 2", param="edit")
    if edit is not None and not edit.strip():
        raise HttpError(400, "the edited answer is empty; write one, or skip", "empty_edit", "edit")
    seconds = body.get("seconds")
    is_known = type(seconds) in (int, float) and math.isfinite(seconds) and 0 <= seconds <= MAX_SECONDS
    topic = None if body.get("topic") is None else _text(body, "topic", MAX_TOPIC).strip()
    ids = id, _text(body, "item", 64), _text(body, "shown", 64)
    remark = _text(body, "remark", MAX_REMARK, "").strip()
    return Click(*ids, choice, edit, topic, remark, round(seconds, 3) if is_known else None)


def parse_id(body: dict[str, Any]) -> str:
    """The id of a click. HttpError: 400, it is missing or wrong."""
    id = _text(body, "id", 64)
    if not CLICK_ID.fullmatch(id):
        raise HttpError(400, "'id' must be 1 to 64 letters, digits, - and _", param="id")
    return id


def _text(body: dict[str, Any], name: str, most: int, default: str | None = None) -> str:
    text = body.get(name, default)
    if not isinstance(text, str):
        raise HttpError(400, f"{name!r} must be a text", param=name)
    if len(text) > most:
        raise HttpError(400, f"{name!r} has {len(text):,} characters, and at most {most:,}", param=name)
    if not is_unicode(text):
        raise HttpError(400, f"{name!r} has half of a surrogate pair, which is no text", param=name)
    return text


def make_record(click: Click, annotator: str, item: Item, pair: Pair, order: Sequence[int]) -> Record:
    """The judgment of a click, but for its number.

    Raises:
      HttpError: 400, the choice tells nothing, since two texts are the same.
    """
    record: Record = dict(item.content)
    winner = None if click.place is None else order[click.place]
    if winner is not None:
        chosen, rejected = pair.texts[winner], pair.texts[1 - winner]
        if click.edit is not None:
            chosen, rejected = click.edit, chosen
        if chosen == rejected:
            _refuse_equal(is_edit=click.edit is not None)
        record |= {"chosen": chosen, "rejected": rejected, "completion": chosen}
    record |= {"edited": click.edit is not None, "choice": click.choice, "winner": winner}
    record |= {"answers": pair.texts, "order": [*order], **pair.origin, "cut": pair.cut}
    topic = item.topic if click.topic is None else click.topic
    record |= {"item": item.id, "annotator": annotator, "topic": topic, "remark": click.remark}
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return record | {"time": time, "seconds": click.seconds, "id": click.id}


def _refuse_equal(is_edit: bool) -> None:
    if is_edit:
        raise HttpError(400, "the edited answer is the answer as it was; change it, or choose it", "same_edit", "edit")
    raise HttpError(400, "both answers are the same, so neither is better; say tie, skip, or edit one", "equal_answers")
