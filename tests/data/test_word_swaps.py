"""Swapped words: case, what is before a noun, and that swapping twice gives a text again where it can."""

import random
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data import word_swaps
from jaxgpt.data.word_swaps import parse_word_swaps, read_word_swaps
from jaxgpt.errors import DataError

ROOT = Path(__file__).parent.parent.parent
ONE_TO_ONE = parse_word_swaps("list", "he <-> she\nMary <-> John\nä <-> öü\n".encode())


def test_the_list_that_ships():
    swaps = read_word_swaps()
    for text, mirror, count in (
        ("He gave her his dog.", "She gave him her dog.", 3),
        ("HER dog likes him; it is hers.", "HIS dog likes her; it is his.", 3),
        ("I saw her. I saw her\nand left her alone", "I saw him. I saw him\nand left him alone", 3),
        ("The dog is his, not hers", "The dog is hers, not his", 2),
        ("She's MARY'S mother-in-law, Mrs Smith.", "He's JAMES'S father-in-law, Mr Smith.", 4),
        ("Her\n  old wives", "His\n  old husbands", 2),
        ("the, sheet, here, mankind, she_said, he2", "the, sheet, here, mankind, she_said, he2", 0),
        ("mary and hE", "mary and hE", 0),
    ):
        assert swaps.swap(text) == (mirror, count)
    assert swaps.pairs > 100 and len(swaps.sha256) == 64


def test_what_the_rule_of_thumb_gets_wrong():
    assert read_word_swaps().swap("I gave her books.")[0] == "I gave his books."  # docs/bias.md says so


def test_case_is_kept_and_words_are_whole(write):
    swaps = read_word_swaps(write("swaps.txt", "he <-> she  # pronouns\n\nhim -> her\nJohn <-> Mary\nä <-> öü\n"))
    assert swaps.swap("He, SHE, he; him! Himself. JOHN john") == ("She, HE, she; her! Himself. MARY john", 5)
    assert swaps.swap("Ä Öü ÖÜ ä") == ("Öü Ä ÖÜ öü", 3)  # of one letter, capitals are a capital
    assert swaps.pairs == 4


words = st.sampled_from(["he", "she", "He", "SHE", "Mary", "JOHN", "öü", "Ä", "x", "hers", ", ", "\n", "-", "'s", " "])


@given(st.lists(words | st.text(max_size=5)))
def test_swapping_twice_gives_the_text(parts):
    swaps, text = ONE_TO_ONE, "".join(parts)
    mirror, count = swaps.swap(text)
    assert swaps.swap(mirror) == (text, count)
    assert count == sum(word in swaps.table for word in re.split(r"(\w+)", text)[1::2])


def test_names_and_kinship_of_the_list_are_one_to_one():
    swaps = read_word_swaps()
    one_way = {word for word, (a, b) in swaps.table.items() if a != b or swaps.table.get(a, ("",))[0] != word}
    # Pronouns, Mrs, and British mum; and what these become, such as Mr, comes back as another word.
    assert {word.lower() for word in one_way} == {"her", "him", "his", "hers", "mrs", "mum", "mums", "mummy"}
    draw = random.Random(0)
    known = sorted(swaps.table.keys() - one_way)
    text = " ".join(draw.choices(known, k=500))
    mirror, count = swaps.swap(text)
    assert count == 500 and swaps.swap(mirror)[0] == text != mirror


@pytest.mark.parametrize(
    "content, message",
    [
        ("he she\n", "line 1: is not 'he <-> she', 'him -> her' or 'her -> his | him', of single words; mend it"),
        ("\nhe <-> she | it\n", "line 2: is not 'he <-> she'"),
        ("mother-in-law <-> father\n", "line 1: is not"),
        ("he <-> she\nshe -> he\n", "line 2: an earlier line replaces the same word; remove one of them"),
        ("# he <-> she\n", "no swap in it; write one a line, such as: he <-> she"),
        (b"\xff\n", "not UTF-8"),
    ],
)
def test_a_list_that_is_wrong_is_refused(write, content, message):
    with pytest.raises(DataError, match=re.escape(message)):
        read_word_swaps(write("list.txt", content))
    with pytest.raises(DataError, match="nowhere: no such file; give a list with a swap a line"):
        read_word_swaps("nowhere")


def test_the_list_is_part_of_the_package():
    assert word_swaps._FILE.is_file() and f'"{word_swaps._FILE.name}"' in (ROOT / "pyproject.toml").read_text()
