"""What is refused before a library sees it."""

import types

import pytest

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.environments.base import end_token, limit_answer, one_line, require_settings
from jaxgpt.errors import UsageError

DEFAULTS = {"slippery": True, "steps": 5, "rate": 0.5, "map": "4x4", "operators": ("+", "-"), "limit": None}


def test_settings_of_their_defaults_types_are_taken():
    require_settings("--env x", {}, DEFAULTS)
    require_settings("--env x", {"slippery": False, "steps": 3, "rate": 1, "map": "8x8"}, DEFAULTS)
    require_settings("--env x", {"rate": 0.1, "operators": "+", "limit": 9}, DEFAULTS)  # the library's to judge


@pytest.mark.parametrize(
    "name, value, why",
    [
        ("slipery", True, "no setting 'slipery'; it has slippery, steps, rate, map, operators, limit"),
        ("slippery", "no", "slippery=no must be true or false"),
        ("slippery", 1, "slippery=1 must be true or false"),
        ("steps", 2.5, "steps=2.5 must be an integer"),
        ("steps", True, "steps=True must be an integer"),
        ("rate", "half", "rate=half must be a number"),
        ("map", 4, "map=4 must be a text"),
    ],
)
def test_others_are_refused(name, value, why):
    with pytest.raises(UsageError) as error:
        require_settings("--env x", {name: value}, DEFAULTS)
    assert str(error.value) == f"--env x: {why}"


def test_what_a_library_says_is_put_into_a_line():
    assert one_line(KeyError("5x5")) == "KeyError: '5x5'" and one_line(ValueError(" a\n\tb ")) == "ValueError: a b"
    assert len(one_line(ValueError("long " * 999))) == 200


def test_an_answer_ends_with_one_token_that_the_tokenizer_has():
    newline, document, two_lines = (types.SimpleNamespace(name="x", end=end) for end in ("\n", None, "\n\n"))
    assert end_token(newline, ByteTokenizer()) == 10 and end_token(document, ByteTokenizer()) == 256
    without_end = types.SimpleNamespace(name="letters", end=None)
    for environment, tokenizer, end in [
        (two_lines, ByteTokenizer(), r"'\n\n'"),
        (document, without_end, "the end of a document"),
    ]:
        with pytest.raises(UsageError) as error:
            end_token(environment, tokenizer)
        lacks = f"and the tokenizer {tokenizer.name} has no such token; use --tokenizer bytes"
        assert str(error.value) == f"x ends an answer with {end}, {lacks}"


def test_an_answer_has_the_users_length_or_else_the_environments_within_the_episode():
    own, none = types.SimpleNamespace(answer_tokens=4), types.SimpleNamespace(answer_tokens=None)
    assert [limit_answer(own, T, given) for T, given in [(9, None), (9, 6), (9, 20), (3, None)]] == [4, 6, 8, 2]
    assert limit_answer(none, 9, None) == 8
