"""Which kind of example a record is, by its fields."""

import pytest

from jaxgpt.data.formats import read_examples
from jaxgpt.errors import DataError

ALPACA = """Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Add them.

### Input:
2, {3}

### Response:"""


def read(path):
    return [example for _, example in read_examples(path)[1]]


def test_instructions_have_the_two_prompts_of_stanford_alpaca(write):
    records = [{"instruction": "Add them.", "input": "2, {3}", "output": "5", "text": "all of it"}]
    records += [{"instruction": "Say {hi}.", "output": "hi"} | more for more in ({}, {"input": ""}, {"input": None})]
    short = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nSay {hi}.\n\n### Response:"
    )
    assert read(write("a.jsonl", records)) == [[(ALPACA, False), ("5", True)], *[[(short, False), ("hi", True)]] * 3]


@pytest.mark.parametrize("header", ["prompt,completion", " Prompt ,COMPLETION", "Prompt,completion,Completion"])
def test_fields_may_have_blanks_and_capitals(write, header):
    path = write("a.csv", f"{header}\na, b{',c' * (header.count(',') - 1)}\n")
    assert read(path) == [[("a", False), (" b", True)]]


KINDS = (
    "text and label, or text_a and text_b and label, or messages, or conversations, or prompt and completion, or "
    "instruction and output"
)


@pytest.mark.parametrize(
    "records, message",
    [
        (
            [{"question": "x", "answer": "y"}],
            f", line 1: its fields are 'question', 'answer', and an example has {KINDS}; "
            "a plain text needs another name, such as .txt",
        ),
        (
            [{"prompt": "x", "completion": "y", "messages": []}],
            ", line 1: its fields are 'prompt', 'completion', 'messages', and an example has messages, or prompt and "
            "completion, not both; remove one",
        ),
        (
            [{"prompt": "x", "completion": "y"}, {"instruction": "x", "output": "y"}],
            ", line 2: its fields are 'instruction', 'output', and an example has prompt and completion; "
            "a plain text needs another name, such as .txt",
        ),
    ],
    ids=["none", "two", "not that of the first"],
)
def test_the_fields_of_no_kind_or_of_two_are_one_line(write, records, message):
    path = write("a.jsonl", records)
    with pytest.raises(DataError) as error:
        read_examples(path)
    assert str(error.value) == path + message
