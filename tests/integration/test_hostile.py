"""A short form of tests/support/hostile.py."""

import random
import re

import pytest

from jaxgpt.prepare.pii import words
from tests.support import hostile

CHAIN = "Ã\x83"  # is Ã in the wrong encoding, which may be the beginning of the next one


def mixed_marks(length):
    return "a" + "".join(random.Random(length).choices(hostile.MARKS, k=length))


# What once took a time that was quadratic in the length.
KNOWN = [
    ("boilerplate", lambda length: f"powered by {length * '!'} x"),
    ("unicode", mixed_marks),
    ("unicode", lambda length: "&" + length // 4 * "amp;"),
    ("unicode", lambda length: CHAIN + length * "\x83"),
    ("unicode", lambda length: "\u4e2d" + (CHAIN + length // 2 * "\x83").encode().decode("latin-1")),
    ("pages", lambda length: f"<p>{mixed_marks(length)}"),
    ("minhash", mixed_marks),
    ("decontaminate", mixed_marks),
]


def find_slow(folder, number, characters, known):
    targets, draw = hostile.targets(folder), random.Random(0)
    drawn = list(hostile.hostile_texts(hostile.find_rules(), draw))
    tried = [*known, *((name, text) for name in targets for text in draw.sample(drawn, number))]
    return [(name, slow) for name, text in tried if (slow := hostile.growth(targets[name], text, characters))]


def test_time_grows_with_the_length_of_a_text(tmp_path):
    assert find_slow(tmp_path, 8, 16_000, KNOWN) == []


def test_the_texts_reach_a_new_rule_that_backtracks(monkeypatch):
    monkeypatch.setattr(words, "NEW", pattern := re.compile("(?:k=)+!"), raising=False)
    new = [rule for rule in hostile.find_rules() if "k=" in hostile.literals(rule)]
    texts = list(hostile.hostile_texts(new * 4, random.Random(0)))
    assert texts and any(hostile.growth(pattern.search, text, 10_000) for text in texts)


@pytest.mark.slow
def test_time_grows_with_the_length_of_a_long_text(tmp_path):
    zeros = "unicode", lambda length: length // 2 * "\xc0\x80"  # as Java encodes them
    assert find_slow(tmp_path, 1, 400_000, [zeros]) == []
