"""Judgments of two answers a line, as `jaxgpt review` writes them or another tool does. No JAX."""

import dataclasses
import json
import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.data.records import describe_value, find_name, read_jsonl, require_unicode
from jaxgpt.errors import DataError

TIE = 2  # the vote that neither answer is better
OUTCOMES = {"tie": TIE, "skip": None}  # votes that choose no answer, by their words
UNDECIDED = ".undecided"  # in the name of the file that has them
MAX_PROMPT_CHARS = 400  # of a prompt that is shown


@dataclasses.dataclass(frozen=True)
class Judgment:
    """What one annotator says of one item, two answers to a prompt."""

    annotator: str
    """Who; "" if the file does not say."""
    item: tuple[Any, ...]
    """The same for all judgments of the same two answers."""
    name: str
    """The item's number or name in the file; "" if it has none."""
    vote: int | None
    """0 or 1: the better answer, in the order of the models; TIE; None: skipped."""
    place: int | None = None
    """1 or 2: where the chosen answer stood on the page."""
    seconds: float | None = None
    """How long the annotator looked at it."""
    models: tuple[str, str] | None = None
    """The names of the models that wrote answers 0 and 1, with the beginning of the fingerprint, if there is one."""
    topic: str = ""
    is_edited: bool = False
    remark: str = ""
    prompt: str = ""


def read_judgments(paths: Sequence[Path]) -> list[Judgment]:
    """The judgments in files, and in those of what is undecided beside them, in the order of the lines.

    Of several lines of an annotator on an item the last is in force.

    Raises:
      DataError: a file can't be read, or a line is no judgment; with the line's number.
    """
    by_key: dict[Any, Judgment] = {}
    for path in with_undecided(paths):
        for line, record in read_jsonl(path):
            judgment = parse_judgment(f"{path}, line {line}", record, (str(path), line))
            key = (judgment.annotator or (path, line), judgment.item)  # nobody knows who those without a name are
            by_key.pop(key, None)  # so that a later line is later in the order too
            by_key[key] = judgment
    return [*by_key.values()]


def undecided_path(out: Path) -> Path:
    """The file of ties and skips beside that of the judgments that chose: prefs.undecided.jsonl beside prefs.jsonl."""
    return out.with_name(out.stem + UNDECIDED + out.suffix)


def with_undecided(paths: Iterable[Path]) -> list[Path]:
    """The files, each once, with those that `jaxgpt review` writes beside them; one of a review is left out if empty.

    A review in which all is undecided has an empty file, or none.
    """
    files: dict[Path, None] = {}
    for path in paths:
        beside = undecided_path(path)
        has_undecided = not path.stem.endswith(UNDECIDED) and beside.is_file() and beside.stat().st_size > 0
        is_empty = not path.exists() or (path.is_file() and path.stat().st_size == 0)
        files |= dict.fromkeys([path] * (not (has_undecided and is_empty)) + [beside] * has_undecided)
    return [*files]


def parse_judgment(where: str, record: dict[str, Any], line: tuple[str, int] = ("", 0)) -> Judgment:
    """The judgment in a record, of which only `winner` or, where none won, `choice` is required.

    Args:
      line: what tells an item without a name and a prompt from all others.

    Raises:
      DataError: a field has a value that it can't have.
    """
    vote = _read_vote(where, record)
    place = _one_of(where, record, "choice", (1, 2)) if vote in (0, 1) else None
    prompt, name = _read_prompt(where, record), _read_name(where, record)
    answers = record.get("answers")
    texts = json.dumps([prompt, answers], sort_keys=True) if prompt or answers else ""
    return Judgment(
        annotator=_read_text(where, record, "annotator"),
        item=(name, texts) if name or texts else line,
        name=name,
        vote=vote,
        place=place,
        seconds=_read_seconds(where, record),
        models=_read_models(where, record),
        topic=_read_text(where, record, "topic"),
        is_edited=_one_of(where, record, "edited", (False, True)) or False,
        remark=_read_text(where, record, "remark"),
        prompt=prompt if len(prompt) <= MAX_PROMPT_CHARS else f"{prompt[:MAX_PROMPT_CHARS]} [...]",
    )


def _read_vote(where: str, record: dict[str, Any]) -> int | None:
    for field in ("winner", "choice"):
        value = record.get(field)
        if isinstance(value, str) and value in OUTCOMES:
            return OUTCOMES[value]
    if record.get("winner") is None:
        known = "a judgment has 'winner': 0, 1 or 'tie', or 'choice': 'tie' or 'skip'"
        raise DataError(f"{where}: no judgment of two answers ({known}); give a file of jaxgpt review")
    return _one_of(where, record, "winner", (0, 1))


def _one_of(where: str, record: dict[str, Any], field: str, values: Sequence[Any]) -> Any:
    """A field that has one of these values, or is missing."""
    value = record.get(field)
    if value is not None and (value not in values or type(value) is not type(values[0])):
        allowed = " or ".join(json.dumps(each) for each in values)
        raise DataError(f"{where}: {field!r} is {describe_value(value)}, and must be {allowed}; mend the line")
    return value


def _read_text(where: str, record: dict[str, Any], field: str) -> str:
    value = record.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise DataError(f"{where}: {field!r} is {describe_value(value)}, and must be a text; mend the line")
    require_unicode(where, value)
    return value.strip()


def _read_name(where: str, record: dict[str, Any]) -> str:
    value = record.get("item")
    if type(value) is int and abs(value) < 2**63:
        return str(value)
    return _read_text(where, record, "item")


def _read_seconds(where: str, record: dict[str, Any]) -> float | None:
    value = record.get("seconds")
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value < 1e9 or not math.isfinite(value):
        what = f"{where}: 'seconds' is {describe_value(value)}"
        raise DataError(f"{what}, and must be a number of seconds, 0 or more; mend the line")
    return float(value)


def _read_models(where: str, record: dict[str, Any]) -> tuple[str, str] | None:
    models = record.get("models")
    if models is None:
        return None
    names = [_name_model(each) for each in models] if isinstance(models, list) else []
    if not 1 <= len(names) <= 2 or not all(names):
        raise DataError(f"{where}: 'models' must be a list of the one or two models that wrote the answers; mend it")
    require_unicode(where, *names)
    return names[0], names[-1]


def _name_model(model: Any) -> str:
    """A model's name in the statistics; "" if it has none."""
    if isinstance(model, dict):
        name, fingerprint = model.get("name"), model.get("fingerprint")
        if isinstance(name, str) and isinstance(fingerprint, str) and fingerprint:
            return f"{name} ({fingerprint[:8]})"
        model = name
    return model if isinstance(model, str) else ""


def _read_prompt(where: str, record: dict[str, Any]) -> str:
    """The prompt, or what the messages say, in one text."""
    if (name := find_name("prompt", record)) is not None and isinstance(record[name], str):
        prompt = record[name]
    elif isinstance(messages := record.get("messages"), list) and all(isinstance(each, dict) for each in messages):
        prompt = "\n".join(f"{each.get('role')}: {each.get('content')}" for each in messages)
    else:
        return ""
    require_unicode(where, prompt)
    return prompt
