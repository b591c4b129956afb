"""Answers that are judged as rows, against the texts that they were made of."""

import json

import pytest

from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.judged import load_judged, load_scored
from jaxgpt.errors import DataError

END = 50256


def ids(text):
    return encoding().encode_ordinary(text)


def rows_of(data):
    table = data.table
    return [
        (row[:start].tolist(), row[start : last + 1].tolist())
        for row, start, last in zip(table["tokens"][:], table["start"], table["last"], strict=True)
    ]


def test_texts_end_in_their_last_answer(write):
    """A prompt that leaves no room is skipped, and the lines are still the file's."""
    records = [
        {"prompt": "One and one are", "completion": " two.", "good": True},
        {"prompt": "so " * 40, "completion": " no"},
        {"prompt": "", "completion": "so " * 40},
    ]
    data = load_scored(write("a.jsonl", records), 2, 24)
    assert rows_of(data) == [(ids("One and one are"), [*ids(" two."), END]), ([END], ids("so " * 40)[:23])]
    assert (data.T, data.num_rows(), data.lines.tolist()) == (24, 2, [1, 3])
    assert data.notes == (
        "1 text cut at the end, to --T 24",
        "1 text skipped: the prompt alone fills --T 24",
    )
    ((before, answer),) = rows_of(load_scored(write("b.jsonl", [{"text": "All of it"}]), 2, 24))
    assert (before, answer) == ([END], [*ids("All of it"), END])
    messages = [("user", "Hi"), ("assistant", "Hello"), ("user", "Bye"), ("assistant", "See you"), ("user", "What?")]
    chat = {"messages": [{"role": role, "content": content} for role, content in messages]}
    ((before, answer),) = rows_of(load_scored(write("c.jsonl", [chat]), 2, 64))
    text = encoding().decode(before)
    assert text == "User: Hi\n\nAssistant: Hello<|endoftext|>\n\nUser: Bye\n\nAssistant:"
    assert answer == [*ids(" See you"), END]


def test_rows_are_as_long_as_the_longest_in_whole_blocks(write):
    pairs = [{"prompt": "so", "chosen": " yes" * n, "rejected": " no"} for n in (3, 40)]
    data, groups = load_judged(
        write("a.jsonl", [pair | {"group": g} for pair, g in zip(pairs, "ba", strict=True)]), 2, 200
    )
    assert data.table["tokens"][:].shape == (2, 2, 64) and data.T == 128  # of 42 tokens
    assert groups == ("b", "a") and data.table["group"].tolist() == [0, 1]
    assert load_judged(write("a.jsonl", pairs), 2, 50)[0].T == 2 * 50
    rated = {"prompt": "so", "completion": " yes", "good": False}
    data, groups = load_judged(write("b.jsonl", [rated]), 2, 200)
    assert (data.kind, data.T, data.table["good"].tolist(), groups) == ("ratings", 32, [0], ("",))


@pytest.mark.parametrize(
    "record, message",
    [
        ({"prompt": "a", "chosen": "b", "rejected": "b"}, "line 1: its fields are 'prompt', "),
        (
            {"prompt": "so " * 50, "completion": ""},
            "no text is left: 1 text skipped: the prompt alone fills --T 20",
        ),
    ],
)
def test_a_file_without_a_text_is_refused(record, message, write):
    with pytest.raises(DataError) as error:
        load_scored(write("a.jsonl", json.dumps(record)), 2, 20)
    assert message in str(error.value)
