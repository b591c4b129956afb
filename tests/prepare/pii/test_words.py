"""The context of a number: the last word before it decides."""

from itertools import pairwise

import pytest

from jaxgpt.prepare.pii import words


@pytest.mark.parametrize(
    "text, meaning",
    [
        ("phone 1234", "phone"),
        ("Call about order no. 1234", "other"),
        ("order by phone: 1234", "phone"),
        ("national identity number 1234", "any_id"),
        ("his BSN is 1234", "id_nl"),
        ("visa 1234", "card"),
        ("1234 (mobile)", "phone"),
        ("1234\nmobile", ""),
        ("telling 1234 stories", ""),
        ("sin 1234", ""),  # without, in Spanish
        ("SIN 1234", "id_ca"),
        ('"sin": 1234', "id_ca"),
        ("an order. Then 1234", ""),
        ("order\n1234", ""),
        ("order:\n1234", "other"),
        ("1234 is your order", "other"),
        ("1234, order 55", ""),  # which is the order's
        ("1234 | Order of the day", ""),
        ("later 1234", ""),
        ("customer 1234", ""),
        ("customer no. 1234", "other"),
        ("<PHONE> 1234", ""),  # a placeholder is no word
        ("\u7535\u8bdd1234", "phone"),
    ],
)
def test_context_of(text, meaning):
    start = text.index("1234")
    assert words.context_of(text, start, start + 4) == meaning


@pytest.mark.parametrize("text", ["", "word", "a b\n\nc d e\nf " * 9, "x" * 50, " " * 50])
def test_pieces_are_the_text_and_short(text):
    ends = [0]
    while ends[-1] < len(text):
        ends.append(words.piece_end(text, ends[-1], 10))
    assert ends[-1] == len(text) and all(0 < b - a <= 10 for a, b in pairwise(ends))
    assert words.piece_end("one\n\ntwo\nthree four", 0, 16) == 5 and words.piece_end("one two", 0, 6) == 4
