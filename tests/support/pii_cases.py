"""Texts with personal data at known places, among as many texts that only look as if they had some.

`cases` draws them from the templates of tests/support/pii_texts.py; `score` holds a finder to them. The kinds are:

- email: an address of a real form. phone: an international number with +, or a national one in the usual form of the
  US, UK, DE, FR, ES or IT, or any number beside a word such as "tel".
- ip: an IPv4 or IPv6 address that is no loopback, unspecified address, netmask or version number.
- credit_card: an issuer's prefix and Luhn's digit. iban: the country's length, and 1 modulo 97.
- national_id: a national number whose check digit is right; one of digits alone stands in its usual form or beside a
  word that names it. secret: a key of a known form, a password in a URL, or a random value of a name such as api_key.
"""

import dataclasses
import random
import re
from collections.abc import Callable

from tests.support import pii_contacts as contacts
from tests.support import pii_values as values
from tests.support.pii_lookalikes import FILLERS
from tests.support.pii_texts import NEGATIVES, PLAIN, POSITIVES

KINDS = ("email", "phone", "ip", "credit_card", "iban", "national_id", "secret")
Span = tuple[str, int, int]


@dataclasses.dataclass(frozen=True)
class Case:
    """One text and what is to be found in it."""

    text: str
    spans: tuple[Span, ...]
    """(kind, start, end) of each thing to be found, in characters; none in a look-alike."""
    what: str
    """The kinds in the text, or why what stands there is none of them."""


def draw(rng: random.Random, kind: str, form: str) -> str:
    """A value for [[kind]] or [[kind:form]]."""
    if kind == "email":
        return contacts.address(rng)
    if kind == "phone":
        return contacts.telephone(rng, form)
    if kind == "ip":
        return contacts.ip(rng)
    if kind == "credit_card":
        return values.card_style(rng, values.card(rng))
    if kind == "iban":
        return values.iban_style(rng, values.iban(rng))
    if kind == "national_id":
        return values.person(rng, form)
    return contacts.secret(rng, form or rng.choice(contacts.SECRETS))


def render(rng: random.Random, template: str) -> tuple[str, tuple[Span, ...]]:
    """Fill a template; the spans are those of the kinds, in order."""
    parts = re.split(r"\[\[(\w+)(?::([\w+]+))?\]\]", template)
    text, spans = parts[0], []
    for kind, form, after in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
        if kind in KINDS:
            value = draw(rng, kind, form)
            spans.append((kind, len(text), len(text) + len(value)))
        else:
            filler = FILLERS[kind]
            value = filler(rng) if callable(filler) else rng.choice(filler)
        text += value + after
    return text, tuple(spans)


def cases(seed: int, n: int = 2400) -> list[Case]:
    """`n` different cases, the same for the same seed: half have something to be found, in equal parts for each kind
    and for texts of several kinds; half have nothing, in equal parts for each reason."""
    rng = random.Random(seed)
    out, seen, pools = [], set(), [list(POSITIVES.items()), list(NEGATIVES.items())]
    while len(out) < n:
        pool = pools[len(out) % 2]
        what, templates = pool[len(out) // 2 % len(pool)]
        template = rng.choice(templates)
        if rng.random() < 0.35:  # in the middle of some other text
            between = rng.choice([" ", "\n", "\n\n"])
            lead, tail = (" ".join(rng.choices(PLAIN, k=rng.randint(0, 3))) for _ in range(2))
            template = between.join(part for part in (lead, template, tail) if part)
        text, spans = render(rng, template)
        if text not in seen:
            seen.add(text)
            kinds = " and ".join(dict.fromkeys(kind for kind, _, _ in spans))
            out.append(Case(text, spans, kinds if spans else what))
    rng.shuffle(out)
    return out


def overlap(a: Span, b: Span) -> bool:
    """Whether two spans are of one kind and share a character."""
    return a[0] == b[0] and a[1] < b[2] and b[1] < a[2]


def wrong(found_by: Callable[[str], list[Span]], cases: list[Case]) -> list[tuple[str, str, str, Case]]:
    """Each mistake of a finder, to read: ("missed" or "false", kind, the piece of text, its case)."""
    out = []
    for case in cases:
        found = found_by(case.text)
        for error, spans, others in (("missed", case.spans, found), ("false", found, case.spans)):
            lost = (span for span in spans if not any(overlap(span, other) for other in others))
            out += [(error, kind, case.text[start:end], case) for kind, start, end in lost]
    return out


def score(found_by: Callable[[str], list[Span]], cases: list[Case]) -> dict[str, tuple[float, float, int]]:
    """Precision and recall of a finder of spans.

    Args:
        found_by: takes a text and gives its (kind, start, end), in characters.

    Returns:
        For each kind, and for "all" taken together: (the part of the found spans that overlap a true span of their
        kind, the part of the true spans that overlap a found one of their kind, the number of true spans). A kind of
        which nothing was found has precision 1, one of which nothing is there has recall 1.
    """
    found, false, true, missed = ({kind: 0 for kind in (*KINDS, "all")} for _ in range(4))
    for case in cases:
        ours = found_by(case.text)
        for mine, others, total, bad in ((ours, case.spans, found, false), (case.spans, ours, true, missed)):
            for span in mine:
                lost = not any(overlap(span, other) for other in others)
                for kind in (span[0], "all"):
                    total[kind] += 1
                    bad[kind] += lost
    return {
        kind: (1 - false[kind] / max(1, found[kind]), 1 - missed[kind] / max(1, true[kind]), true[kind])
        for kind in found
    }
