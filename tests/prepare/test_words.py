import random
import sys
import tracemalloc
import unicodedata

import pytest
from datatrove.utils.text import TextNormConfig, simplify_text

from jaxgpt.prepare.words import LONG_MARKS, WORDS, simplify, sort_marks


def test_words():
    assert WORDS.word_tokenize(" It's a\n\ndog's\u3000life — isn't it? ") == [
        "It's",
        "a",
        "dog's",
        "life",
        "—",
        "isn't",
        "it?",
    ]


def test_sentences():
    text = '  He said: "Stop!" Then he left... Nobody (not one.) moved?  3.5 m'
    assert WORDS.sent_tokenize(text) == ['He said: "Stop!"', "Then he left...", "Nobody (not one.)", "moved?", "3.5 m"]
    assert "".join(text[start:end] for start, end in WORDS.span_tokenize(text)) == text
    assert WORDS.sent_tokenize("  ") == []


def test_sorted_marks_are_the_same_text():
    draw = random.Random(0)
    every = [
        chr(code) for code in range(sys.maxunicode) if unicodedata.combining(unicodedata.normalize("NFD", chr(code))[0])
    ]
    assert len(every) > 800 and all(LONG_MARKS.fullmatch(32 * mark) for mark in every)
    for _ in range(50):
        text = "\u1ead" + "".join(draw.choices([*every, "\U0001f642", "."], k=draw.choice([31, 32, 400])))
        for form in ("NFC", "NFD"):
            assert unicodedata.normalize(form, sort_marks(text)) == unicodedata.normalize(form, text)
    assert sort_marks("e\u0301\u0323" + PROSE) == "e\u0301\u0323" + PROSE


PROSE = "Whatever else there is — “quotes”, 東京, ½ — stays as it is…"


def test_simple_text_is_that_of_datatrove():
    draw, every = random.Random(0), [chr(code) for code in range(sys.maxunicode) if not 0xD800 <= code < 0xE000]
    for _ in range(1000):
        text = "".join(draw.choices(every[: draw.choice([0x400, 0x3000, 0x20000])], k=draw.randint(0, 90)))
        assert simplify(text) == simplify_text(sort_marks(text), TextNormConfig(norm_numbers=False))


@pytest.mark.parametrize("text", ["\ud55c", "\U0001d160", "\u0301\u0323"])
def test_a_text_takes_no_object_for_each_character(text):
    """Each of "\ud55c" and U+1D160 is three characters in NFD, of at least 60 bytes as objects."""
    simplify("\ud55c")  # has a table made
    tracemalloc.start()
    simplify(20_000 // len(text) * text)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 20_000 * 80
