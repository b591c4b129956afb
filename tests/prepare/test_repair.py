import random
import re
import unicodedata
from re import _parser as parser

from datatrove.pipeline.formatters import FTFYFormatter
from ftfy.badness import BADNESS_RE

from jaxgpt.prepare import repair
from tests.support.faulty_texts import FOREIGN, ODD
from tests.support.hostile import alternatives, example

PROSE = "The lighthouse keeper wrote in his diary every evening; the café at the pier's end was named after his dog.\n"
FTFY = FTFYFormatter(remove_control_chars=False, remove_terminal_escapes=False, normalization="NFC")


def with_wrong_encodings(draw):
    """A few lines, parts of which were taken for another encoding, escaped for HTML or decomposed; right ones too."""
    pieces = []
    for _ in range(draw.randint(1, 6)):
        piece = draw.choice([*FOREIGN, *ODD, PROSE, "R&D, &amp;amp;lt; &eacute;", "a < b", "Ã la carte"])
        for _ in range(draw.choice([0, 1, 1, 2])):
            how = draw.choice(["cp1252", "latin-1", "cp1251", "cp1253", "mac-roman", "cp437", "NFD"])
            if how == "NFD":
                piece = unicodedata.normalize("NFD", piece)
            else:
                piece = piece.encode().decode(how, draw.choice(["ignore", "replace"]))
        pieces += [piece, draw.choice(["", " ", "\n"])]
    return "".join(pieces)


def test_texts_are_repaired_as_by_ftfy():
    draw = random.Random(0)
    texts = [
        "a <b> | 'c'\n\n~~",
        "".join(map(chr, range(1, 0xD800))),
        *(with_wrong_encodings(draw) for _ in range(300)),
    ]
    repaired = [FTFY.format(text) for text in texts]
    assert [repair.fix_unicode(text) for text in texts] == repaired
    assert sum(map(str.__ne__, texts, repaired)) > 100
    assert repair.fix_unicode(PROSE) is PROSE and repair.fix_unicode("R&amp;D") == "R&D"


def test_all_that_ftfy_takes_for_wrong_is_suspect():
    """Against examples of each branch of ftfy's own regex."""
    draw = random.Random(0)
    branches = alternatives(parser.parse(BADNESS_RE.pattern, re.VERBOSE))
    texts = ["".join(example(branch, draw)) for branch in branches for _ in range(300)]
    bad = [text for text in texts if BADNESS_RE.search(text)]
    assert len(branches) > 30 and len(bad) > 0.9 * len(texts)
    assert [text for text in bad if not repair.SUSPECT.search(text)] == []


def test_what_is_wrong_over_and_over_is_repaired_a_limited_number_of_times():
    assert repair.fix_unicode("&" + (repair.TIMES - 2) * "amp;" + "lt;") == "<"
    assert repair.fix_unicode("&" + (repair.TIMES + 5) * "amp;" + "lt;") == "&" + 5 * "amp;" + "lt;"


def test_marks_of_any_number_are_normalized():
    """NFC of a long run has its marks by class, and those of a class as they were."""
    draw = random.Random(0)
    marks = draw.choices("\u0301\u0323\u0327\u0345\u0f71\u0f72\u302e", k=5000)
    text = "q" + "".join(marks) + "\ne\u0301" + "\U0001f642" + "\u0301\u0323" * 50
    expected = "q" + "".join(sorted(marks, key=unicodedata.combining)) + "\n\u00e9\U0001f642"
    assert repair.fix_unicode(text) == expected + "\u0323" * 50 + "\u0301" * 50


def test_a_text_of_which_normalization_would_make_too_much_stays(monkeypatch):
    monkeypatch.setattr(repair, "LONGEST", 1500)
    assert repair.fix_unicode(500 * "\ufb2c") == 500 * "\u05e9\u05bc\u05c1"
    assert repair.fix_unicode(501 * "\ufb2c") == 501 * "\ufb2c"
    assert repair.fix_unicode(2000 * "e\u0301") == 2000 * "\u00e9"


def test_controls():
    every = "".join(map(chr, range(0x11000)))
    expected = "".join(c for c in every if c in "\n\t" or unicodedata.category(c) not in ("Cc", "Cs"))
    assert repair.remove_controls(every.replace("\r", "")) == expected.replace("\ufeff", "")
    text = "\ufeffa\x00b\tc\r\nd\re\x1b[31mred\x1b[0m\x85\ud800 f\u200bg"
    assert repair.remove_controls(text) == "ab\tc\nd\nered f\u200bg"
    assert repair.remove_controls(PROSE) == PROSE


BOILERPLATE = [
    "This website uses cookies to improve your experience.",
    "Accept all cookies",
    "Cookie Policy",
    "Privacy Policy",
    "All rights reserved.",
    "Copyright © 2021 Some Company",
    "Click here to subscribe",
    "Read more »",
    "Skip to main content",
    "Sign up for our newsletter today",
    "Share on Facebook",
    "Log in / Register",
    "Advertisement",
    "Home | About | Contact",
    "Please enable JavaScript to view this page.",
]


def test_boilerplate_lines_are_removed_and_similar_sentences_stay():
    stay = [
        "She asked whether the cookies in the oven were done, and he said that they had been for an hour.",
        "The new law says of all websites that their privacy policy must be written so that people who are not "
        "lawyers can understand it.",
        "Home is where the heart is.",
        "He had to share the news with everybody.",
    ]
    mixed = [each for line in BOILERPLATE for each in (line, *stay)]
    assert repair.remove_boilerplate("\n".join(mixed)) == "\n".join(stay * len(BOILERPLATE))
    assert repair.remove_boilerplate("a\n\nb") == "a\n\nb"
