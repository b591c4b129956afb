"""Personal data in text: found by forms and check digits, and replaced by what it was, as <EMAIL>.

Of names of people and places no form tells; `names` takes a model's guess. No method finds all.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxgpt.prepare.pii import addresses, ids, numbers, secrets

# Of two that cover the same text the first is taken.
KINDS = ("email", "phone", "ip", "credit_card", "iban", "national_id", "secret")
RANK = {
    kind: i
    for i, kind in enumerate(
        ("iban", "email", "ip", "credit_card", "national_id", "phone", "secret", "person", "place")
    )
}
FINDERS: tuple[Callable[[str], numbers.Spans], ...] = (
    addresses.emails,
    addresses.ips,
    numbers.cards,
    numbers.ibans,
    numbers.phones,
    ids.national_ids,
    secrets.secrets,
)
ROUNDS = 10  # how often what was replaced is searched again: of +14155552671+14155552671+... each hides the next
PIECE = (
    200_000  # characters that a model of names is given at once: spaCy takes a million, in memory that grows with them
)


class Found(NamedTuple):
    """text[start:end] is of a kind: one of KINDS, "person" or "place"."""

    kind: str
    start: int
    end: int


def find(text: str, kinds: Iterable[str] = KINDS) -> list[Found]:
    """The personal data in a text, sorted and without overlaps: of two that overlap, the longer one.

    All kinds are looked for and `kinds` are returned: a card's digits are no phone number to who asks for phones.
    In the text with these replaced nothing more is found, but in chains of more than ROUNDS where each hides the next.

    Args:
      kinds: of KINDS.
    """
    kinds = frozenset(kinds)
    found = [each for each in _scan(text) if each.kind in kinds]
    # What stood beside a replaced number may be one of its own now; each round finds such, and most texts have none.
    new = found
    for _ in range(ROUNDS):
        if not new:
            break
        new = [each for each in _scan(replace(text, found)) if each.kind in kinds]
        found = apart([*found, *(_back(each, found) for each in new)])
    return found


def _scan(text: str) -> list[Found]:
    return apart(Found(*span) for finder in FINDERS for span in finder(text))


def apart(found: Iterable[Found]) -> list[Found]:
    """Sorted, and of those that overlap only the longest, at equal length the one that comes first in RANK."""
    kept: list[Found] = []
    for each in sorted(found, key=lambda each: (each.start, each.end)):
        if kept and each.start < kept[-1].end:
            kept[-1] = min(kept[-1], each, key=lambda each: (each.start - each.end, RANK[each.kind]))
        else:
            kept.append(each)
    return kept


def _back(new: Found, found: list[Found]) -> Found:
    """From a place in the replaced text to that in the text; what touches a placeholder takes all it stands for."""
    shift, start, end = 0, None, None
    for each in found:
        at = each.start + shift
        to = at + len(placeholder(each.kind))
        if start is None and new.start < to:
            start = min(new.start - shift, each.start)
        if end is None and new.end <= at:
            end = new.end - shift
        shift = to - each.end
        if end is None and new.end <= to:
            end = each.end
    return Found(new.kind, new.start - shift if start is None else start, new.end - shift if end is None else end)


def placeholder(kind: str) -> str:
    """What stands in place of it: <EMAIL>, <CREDIT_CARD>, <PERSON> and so on."""
    return f"<{kind.upper()}>"


def replace(text: str, found: Iterable[Found]) -> str:
    """The text with a placeholder in place of each; of those that overlap, the longest."""
    parts, last = [], 0
    for each in apart(found):
        parts += text[last : each.start], placeholder(each.kind)
        last = each.end
    return "".join([*parts, text[last:]])


def names(text: str, nlp: Callable[[str], Any]) -> list[Found]:
    """People and places, as a spaCy pipeline guesses them: some are missed, and some words are none.

    Args:
      nlp: a pipeline with a recognizer of entities, as `spacy.load` gives it. English models
        know PERSON, GPE, LOC and FAC, others PER and LOC.
    """
    kinds = {"PERSON": "person", "PER": "person", "GPE": "place", "LOC": "place", "FAC": "place"}
    found, start = [], 0
    while start < len(text):
        end = len(text) if len(text) - start <= PIECE else _cut(text, start)
        for entity in nlp(text[start:end]).ents:
            words = entity.text.strip()
            # A placeholder is no name, though models take one for it.
            if entity.label_ in kinds and words and not {"<", ">"} & set(words):
                at = start + entity.start_char + len(entity.text) - len(entity.text.lstrip())
                found.append(Found(kinds[entity.label_], at, at + len(words)))
        start = end
    return apart(found)


def _cut(text: str, start: int) -> int:
    """Where a piece ends: behind the last paragraph, line or word of it."""
    for sign in ("\n\n", "\n", " "):
        if (at := text.rfind(sign, start + 1, start + PIECE)) > 0:
            return at + len(sign)
    return start + PIECE
