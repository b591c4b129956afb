"""Rewards, against values that are worked out by hand."""

from decimal import Decimal
from pathlib import Path

import pytest

from jaxgpt.environments.rewards import last_number, open_reward
from jaxgpt.errors import DataError, UsageError


@pytest.mark.parametrize(
    "spec, field, answer, value",
    [
        ("exact:answer", "Paris", " Paris\n", 1),
        ("exact:answer", " Paris ", "Paris", 1),
        ("exact:answer", "Paris", "paris", 0),
        ("exact:answer", 42, " 42", 1),
        ("number:answer", "so 1 + 1 = 2\n#### 1,234", " It is 1234.", 1),
        ("number:answer", "#### 1,234", "1234 or 1,235", 0),
        ("number:answer", 0.5, "a half: .50", 1),
        ("number:answer", -3, "5-3", 0),
        ("number:answer", 9007199254740993, "9007199254740992", 0),  # the same float
        ("number:answer", 7, "seven", 0),
        ("regex:^ *[ab]:c$", "", " b:c", 1),
        ("regex:^[ab]$", "", "ab", 0),
        ("length:10", "", "x" * 10, 1),
        ("length:10", "", "x" * 15, 0.5),
        ("length:10", "", "x" * 21, 0),
    ],
)
def test_built_in_rewards(spec, field, answer, value):
    reward = open_reward(spec)
    reward.check("", {"answer": field})
    assert reward.load()("a prompt", answer, {"answer": field}) == value


@pytest.mark.parametrize(
    "text, number",
    [
        ("1,234,567.5!", "1234567.5"),
        ("1,2,3", "3"),
        ("1,2345", "2345"),
        ("costs $-12.", "-12"),
        ("3 - -4", "-4"),
        ("1.5e3 m", "1500"),
        ("5e99999", "99999"),
        ("no", None),
    ],
)
def test_the_last_number(text, number):
    assert last_number(text) == (number and Decimal(number))


@pytest.mark.parametrize(
    "spec, record, message",
    [
        ("exact:gold", {"prompt": "a"}, "no field 'gold', which --reward exact:gold reads; its fields are 'prompt'"),
        ("number:gold", {"gold": "none"}, "no number in 'gold', which --reward number:gold reads"),
        ("number:gold", {"gold": [1]}, "'gold' is of type list, and --reward number:gold reads a text or a number"),
        ("exact:gold", {"gold": None}, "'gold' is of type NoneType, and"),
    ],
)
def test_a_record_that_lacks_what_a_reward_reads(spec, record, message):
    with pytest.raises(DataError) as error:
        open_reward(spec).check("p.jsonl, line 3", record)
    assert str(error.value).startswith(f"p.jsonl, line 3: {message}")


@pytest.mark.parametrize(
    "spec, message",
    [
        ("best", "no such reward; use FILE.py:FUNCTION, exact:FIELD"),
        ("rewards.py", "no such reward"),
        ("rewards.py:", "no such reward"),
        ("missing.py:score", "no file missing.py; give one with the function score"),
        ("exact:", "give the name of a field behind the colon"),
        ("regex:(", "missing ), unterminated subpattern at position 0; correct the pattern"),
        ("regex:a{99999999999}", "correct the pattern"),
        ("length:0", "length needs a number of characters"),
        ("length:few", "length needs a number of characters"),
    ],
)
def test_a_spec_that_names_no_reward_is_one_line(spec, message):
    with pytest.raises(UsageError) as error:
        open_reward(spec)
    assert str(error.value).startswith(f"--reward {spec}: ") and message in str(error.value)


def test_a_folder_is_no_file(tmp_path):
    (tmp_path / "x.py").mkdir()
    with pytest.raises(UsageError, match=r"x.py: Is a directory; give a file that can be read"):
        open_reward(f"{tmp_path / 'x.py'}:score")


def test_a_fingerprint_is_of_the_file_and_the_function(write):
    path = write("r.py", "def f(*of): return 1\n")
    first = open_reward(f"{path}:f").fingerprint
    assert first != open_reward(f"{path}:g").fingerprint
    Path(path).write_text("def f(*of): return 2\n")
    assert first != open_reward(f"{path}:f").fingerprint
    assert open_reward("exact:a").fingerprint != open_reward("exact:b").fingerprint
