import unicodedata

from jaxgpt.prepare import repair

PROSE = "The lighthouse keeper wrote in his diary every evening; the café at the pier's end was named after his dog.\n"


def test_ascii_without_entities_is_what_ftfy_returns():
    """The short way, against the long one."""
    repaired = repair.FixUnicode()
    texts = [PROSE.replace("é", "e"), "a <b> | 'c' \"d\" ...\n\n~~", "".join(map(chr, range(128))).replace("&", "")]
    assert [repaired(text) for text in texts] == [repaired.ftfy.format(text) for text in texts] == texts
    assert repaired("R&amp;D") == "R&D"


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
