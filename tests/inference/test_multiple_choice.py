"""Multiple choice: the items of a file, their tokens, and the accuracies."""

import json
import math
import statistics

import pytest

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.errors import DataError
from jaxgpt.inference import multiple_choice

GOOD = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


@pytest.fixture
def read(tmp_path):
    def read(*records, block_size=64):
        (tmp_path / "items.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
        return multiple_choice.read_items(tmp_path / "items.jsonl", block_size, GPT2_TOKENIZER)

    return read


def test_a_choice_follows_the_context_and_a_space(read):
    (item,) = read(GOOD)
    assert item.choices == ["blue.", "a fish."] and item.answer == 0
    encode = encoding().encode
    assert item.requests == [(encode("The sky is"), encode(" blue.")), (encode("The sky is"), encode(" a fish."))]


@pytest.mark.parametrize("context", ["Q: a?\nA:", "Q \n\n", "a  ", "<|endoftext|>Hi", "na\u00efve\u00a0", "one\x1c"])
@pytest.mark.parametrize("choice", ["x", " two blanks", "\nline", "\U0001f600"])
def test_context_and_continuation_are_the_text_in_tokens(context, choice):
    ids, continuation = multiple_choice.encode_pair(GPT2_TOKENIZER, context, " " + choice)
    assert encoding().decode(ids) == context.rstrip()
    assert encoding().decode(ids + continuation) == context + " " + choice
    assert ids + continuation == encoding().encode(context + " " + choice, allowed_special="all")


def test_the_accuracies_of_hand_made_likelihoods(read):
    items = read(
        GOOD | {"choices": ["ab", "abcdefgh"]},  # the first is likelier, by character the second
        GOOD | {"choices": ["ab", "cd", "ef"], "answer": 2},
        GOOD | {"choices": ["ab", "cd"]},  # as likely: the first is taken
    )
    found = multiple_choice.accuracy(items, [[-2.0, -4.0], [-3.0, -2.0, -1.0], [-1.0, -1.0]])
    assert found["acc"] == 1 and found["acc_stderr"] == 0 and found["n"] == 3
    assert found["acc_norm"] == pytest.approx(2 / 3)
    assert found["acc_norm_stderr"] == pytest.approx(statistics.stdev([0, 1, 1]) / math.sqrt(3))
    one = multiple_choice.accuracy(items[:1], [[-2.0, -4.0]])
    assert one["acc"] == 1 and math.isnan(one["acc_stderr"]) and one["n"] == 1


@pytest.mark.parametrize(
    "change, message",
    [
        ({"context": None}, "context must be a text that is not empty"),
        ({"context": " \n"}, "context must be"),
        ({"choices": ["a", "half \ud83d"]}, "a lone surrogate, half of a"),
        ({"choices": "ab"}, "choices must be a list of two texts or more"),
        ({"choices": ["ab"]}, "choices must be a list of two"),
        ({"choices": ["ab", 3]}, "each choice must be a text"),
        ({"choices": ["ab", ""]}, "each choice must be a text"),
        ({"answer": 2}, "answer must be a number from 0 to 1"),
        ({"answer": -1}, "answer must"),
        ({"answer": True}, "answer must"),
        ({"answer": "0"}, "answer must"),
        ({"choices": ["ab", "a " * 40]}, "a choice has 41 tokens, more than the model's context of 32"),
        ({"choices": ["ab", "a" + " " * 10**6 + "b"]}, "a choice has 1,000,001 tokens, more than the model's context"),
    ],
)
def test_a_bad_item_is_one_line(read, change, message):
    with pytest.raises(DataError) as caught:
        read(GOOD, GOOD | change, block_size=32)
    assert "items.jsonl, line 2: " + message in str(caught.value) and "\n" not in str(caught.value)


def test_what_is_missing_is_named(read):
    with pytest.raises(DataError, match=r"items.jsonl, line 2: no choices, answer; an item has"):
        read(GOOD, {"context": "x"})
