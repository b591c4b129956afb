import random
import sys
import unicodedata

from jaxgpt.prepare.words import LONG_MARKS, WORDS, sort_marks


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
