"""Personal data: overlaps, placeholders, stability, hostile texts, and names by a pipeline."""

import random
import re
import subprocess
import sys
import time
from itertools import pairwise

from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.prepare import pii
from jaxgpt.prepare.pii import addresses
from tests.support.hostile import growth
from tests.support.pii_blind.__main__ import draw_cases, rates

TEXT = (
    "Anna <anna@example.org>, +44 20 7946 0958, from 10.0.0.7, paid DE89 3704 0044 0532 0130 00 by 4111 1111 1111 1111."
)


def test_a_placeholder_names_the_kind():
    replaced = "Anna <<EMAIL>>, <PHONE>, from <IP>, paid <IBAN> by <CREDIT_CARD>."
    spans = pii.detect(TEXT)
    assert pii.replace(TEXT, spans) == replaced
    assert [span.kind for span in spans] == ["email", "phone", "ip", "iban", "credit_card"]
    assert pii.detect(replaced) == [] and pii.replace(TEXT, []) == TEXT


def test_only_the_kinds_asked_for():
    for kind in pii.KINDS:
        assert pii.detect(TEXT, (kind,)) == [each for each in pii.detect(TEXT) if each.kind == kind]


def test_the_longer_of_two_overlapping_spans_wins():
    spans = [pii.Span("email", 4, 9), pii.Span("secret", 0, 9), pii.Span("phone", 0, 4), pii.Span("place", 9, 12)]
    assert pii.replace("0123456789abcd", spans) == "<SECRET><PLACE>cd"
    assert pii.replace("0123", [pii.Span("phone", 0, 4), pii.Span("national_id", 0, 4)]) == "<NATIONAL_ID>"


PIECES = ["a@b.org", "4111 1111 1111 1111", "020 7946 0958", "+1 415 555 2671", "10.0.0.7", "2001:db8::1",
          "123-45-6789",
          "tel", "order", "BSN 111222333", "password=", "hunter2", "://a:", "@h.org", "-", " ", ".", "/", ":", "1",
          "23", "(",
          "+", "version ", "x", "DE89370400440532013000", "12345678Z", "AKIAIOSFODNN7EXAMPLE", "\n"]  # fmt: skip


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(PIECES), max_size=9).map("".join))
def test_nothing_is_found_in_a_replaced_text(text):
    spans = pii.detect(text)
    assert all(a.end <= b.start for a, b in pairwise(spans))
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert pii.detect(pii.replace(text, spans)) == []


HOSTILE = [
    "a@", "a@a.", "1", "1 ", "01 23 45 67 89 ", "1.1.1.1.", "1.2.3.4 ", "-", "(", "+1 ", "eyJ", "eyJ-", "eyJa.", ":",
    ":a:", "AB12 AB12 ", "x/a.1234567 ", "call.2018.469910/", "(((", "1,", "1234567 order no ", "://a:", "://a:b@",
    "a=", "secret='", "-----BEGIN PRIVATE KEY-----", "AB12 ", "xoxb-a-", "4111 1111 1111 1111 ", "4444 ",
    "a [at] a [dot] ", "version 1.1 ", "phone 0", "tel 1-1 ", "123456789 ", "+14155552671", "DE89 ", "=", "a='1",
    "Bearer a", "12-",
]  # fmt: skip


def growth_of(unit, characters, search=pii.detect):
    return growth(search, lambda length: unit * (length // len(unit)), characters)


def test_a_hostile_text_is_read_in_linear_time():
    assert [slow for unit in HOSTILE if (slow := growth_of(unit, 30_000))] == []
    # So long that a copy of the text for each "::" shows, a pass over all numbers for each one that was hidden, or a
    # pattern that remembers each digit.
    ips = lambda text: list(addresses.detect_ips("\U0001f600" + text))  # noqa: E731
    assert not growth_of("std::vector x; ", 1_000_000, ips)
    assert not growth_of("+14155552671+14155552671 x ", 80_000)
    assert not growth_of("147", 1_000_000)


def test_prose_is_read_fast():
    words = [word.strip(".,") for word in (pii.__doc__ + pii.detect.__doc__ + pii.detect_names.__doc__).split()]
    draw = random.Random(0)
    text = " ".join(draw.choices(words, k=40_000))
    start = time.process_time()
    assert pii.detect(text) == []
    assert len(text) / (time.process_time() - start) > 1e6  # three times that on a machine with nothing else to do


def test_what_blind_cases_of_published_formats_show():
    # Floors a little below what docs/data.md says of more draws: (usual forms, hard forms).
    floors = {"email": (1, 0.55), "phone": (0.97, 0.8), "ip": (1, 0.8), "credit_card": (0.7, 0.5), "iban": (1, 0.65),
              "national_id": (0.85, 0.8), "secret": (0.95, 0.7)}  # fmt: skip
    found = rates(draw_cases(seed=1, draws=3))
    for kind, (usual, hard) in floors.items():
        assert found[kind, "usual"] >= usual and found[kind, "hard"] >= hard, kind
        assert found[kind, "look-alike"] == 1, kind


def starts_of(name, text):
    return [match.start() for match in re.finditer(name, text)]


class Entity:
    def __init__(self, label, text, start):
        self.label_, self.text, self.start_char = label, text, start


class Pipeline:
    """As spaCy's: entities with a label, a text and where it starts. It knows two names."""

    def __call__(self, text):
        known = {"Anna Smith": "PERSON", "Paris": "GPE", "<EMAIL>": "PERSON", "Monday": "DATE"}
        self.ents = [Entity(label, name, at) for name, label in known.items() for at in starts_of(name, text)]
        return self


def test_names_are_the_pipelines(monkeypatch):
    text = "On Monday Anna Smith wrote from Paris to <EMAIL>.\n"
    spans = pii.detect_names(text, Pipeline())
    assert pii.replace(text, spans) == "On Monday <PERSON> wrote from <PLACE> to <EMAIL>.\n"
    monkeypatch.setattr(pii, "PIECE", 60)  # longer texts go in pieces, cut where no name is
    assert pii.replace(text * 20, pii.detect_names(text * 20, Pipeline())).count("<PERSON>") == 20


def test_it_needs_no_jax():
    code = "import sys, jaxgpt.prepare.pii; assert 'jax' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
