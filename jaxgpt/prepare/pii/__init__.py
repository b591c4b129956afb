"""Personal data in text: detected by forms and check digits, and replaced by its kind, such as <EMAIL>.

Names of people and places have no form; `detect_names` asks a model. No method finds everything.
"""

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from jaxgpt.prepare.pii import addresses, ids, numbers, secrets
from jaxgpt.prepare.pii.words import piece_end

KINDS = ("email", "phone", "ip", "credit_card", "iban", "national_id", "secret")
# The kind that wins if two cover the same text is the first one.
RANK = {
    kind: i
    for i, kind in enumerate(
        ("iban", "email", "ip", "credit_card", "national_id", "phone", "secret", "person", "place")
    )
}
DETECTORS: tuple[Callable[[str], numbers.Spans], ...] = (
    addresses.detect_emails,
    addresses.detect_ips,
    numbers.detect_cards,
    numbers.detect_ibans,
    numbers.detect_phones,
    ids.detect_national_ids,
    secrets.detect_secrets,
)
ROUNDS = 10  # of searching a replaced text again: in +14155552671+14155552671+... each number hides the next
PIECE = 200_000  # characters in one call of the model for names: spaCy takes a million, in memory that grows with them


class Span(NamedTuple):
    """text[start:end] is of this kind: one of KINDS, "person" or "place"."""

    kind: str
    start: int
    end: int


def detect(text: str, kinds: Iterable[str] = KINDS) -> list[Span]:
    """Detect the personal data in a text, sorted and without overlaps: the longer of two overlapping spans wins.

    All kinds are searched for, and `kinds` are returned: a card's digits are no phone number even if only phone numbers
    are asked for. Nothing more is detected in the text with these replaced, except in chains of more than ROUNDS
    numbers that hide each other.

    Args:
      kinds: some of KINDS.
    """
    kinds = frozenset(kinds)
    spans = [span for span in _scan(text) if span.kind in kinds]
    # Text next to a replaced number may be a number itself now; each round detects these, and most texts have none.
    new = spans
    for _ in range(ROUNDS):
        if not new:
            break
        new = [span for span in _scan(replace(text, spans)) if span.kind in kinds]
        spans = drop_overlaps([*spans, *_map_back(new, spans)])
    return spans


def _scan(text: str) -> list[Span]:
    return drop_overlaps(Span(*span) for detector in DETECTORS for span in detector(text))


def drop_overlaps(spans: Iterable[Span]) -> list[Span]:
    """Sort the spans, and keep the longest of those that overlap; at equal length, the first in RANK."""
    kept: list[Span] = []
    for span in sorted(spans, key=lambda span: (span.start, span.end)):
        if kept and span.start < kept[-1].end:
            kept[-1] = min(kept[-1], span, key=lambda span: (span.start - span.end, RANK[span.kind]))
        else:
            kept.append(span)
    return kept


def _map_back(new: list[Span], spans: list[Span]) -> list[Span]:
    """Map spans of the replaced text to the original; one that touches a placeholder includes its original."""
    mapped, first, before = [], 0, 0  # the first span that the next one may touch, and how much the text grew before it
    for kind, start, end in new:
        while first < len(spans) and spans[first].start + before + len(placeholder(spans[first].kind)) <= start:
            before += _growth(spans[first])
            first += 1
        begin, shift, i = start - before, before, first
        if i < len(spans):
            begin = min(begin, spans[i].start)
        while i < len(spans) and spans[i].start + shift < end:
            shift += _growth(spans[i])
            i += 1
        inside = i > first and end <= spans[i - 1].end + shift
        mapped.append(Span(kind, begin, spans[i - 1].end if inside else end - shift))
    return mapped


def _growth(span: Span) -> int:
    return len(placeholder(span.kind)) - (span.end - span.start)


def placeholder(kind: str) -> str:
    """The replacement for a kind: <EMAIL>, <CREDIT_CARD>, <PERSON> and so on."""
    return f"<{kind.upper()}>"


def replace(text: str, spans: Iterable[Span]) -> str:
    """Replace each span with its placeholder; of those that overlap, the longest."""
    parts, last = [], 0
    for span in drop_overlaps(spans):
        parts += text[last : span.start], placeholder(span.kind)
        last = span.end
    return "".join([*parts, text[last:]])


def detect_names(text: str, nlp: Callable[[str], Any]) -> list[Span]:
    """Detect people and places with a spaCy pipeline, which misses some and takes other words for names.

    Args:
      nlp: a pipeline with an entity recognizer, from `spacy.load`. English models have the labels PERSON, GPE, LOC and
        FAC, others PER and LOC.
    """
    kinds = {"PERSON": "person", "PER": "person", "GPE": "place", "LOC": "place", "FAC": "place"}
    spans, start = [], 0
    while start < len(text):
        end = piece_end(text, start, PIECE)
        for entity in nlp(text[start:end]).ents:
            words = entity.text.strip()
            # A placeholder is no name, though models take it for one.
            if entity.label_ in kinds and words and not {"<", ">"} & set(words):
                at = start + entity.start_char + len(entity.text) - len(entity.text.lstrip())
                spans.append(Span(kinds[entity.label_], at, at + len(words)))
        start = end
    return drop_overlaps(spans)
