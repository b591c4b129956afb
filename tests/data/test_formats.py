"""Which kind of example a record is, by its fields."""

import pytest

from jaxgpt.data import formats
from jaxgpt.data.config import FieldNames
from jaxgpt.data.formats import parse_examples, put_pairs_first
from jaxgpt.data.records import read_content
from jaxgpt.errors import DataError, UsageError

ALPACA = """Below is an instruction that describes a task, paired with an input that provides further context. \
Write a response that appropriately completes the request.

### Instruction:
Add them.

### Input:
2, {3}

### Response:"""


def read(path, **fields):
    """Text and labels, "" where there are none, of the examples of a file."""
    _, examples = parse_examples(path, read_content(path), fields=FieldNames(**fields))
    return [(example.segments, example.label) for example in examples]


def test_instructions_have_the_two_prompts_of_stanford_alpaca(write):
    records = [{"instruction": "Add them.", "input": "2, {3}", "output": "5", "text": "all of it"}]
    records += [{"instruction": "Say {hi}.", "output": "hi"} | more for more in ({}, {"input": ""}, {"input": None})]
    short = (
        "Below is an instruction that describes a task. Write a response that appropriately completes the request."
        "\n\n### Instruction:\nSay {hi}.\n\n### Response:"
    )
    assert read(write("a.jsonl", records)) == [
        ([(ALPACA, False), ("5", True)], ""),
        *[([(short, False), ("hi", True)], "")] * 3,
    ]


@pytest.mark.parametrize("header", ["prompt,completion", " Prompt ,COMPLETION", "Prompt,completion,Completion"])
def test_fields_may_have_blanks_and_capitals(write, header):
    path = write("a.csv", f"{header}\na, b{',c' * (header.count(',') - 1)}\n")
    assert read(path) == [([("a", False), (" b", True)], "")]


def test_a_label_may_have_blanks_and_capitals(write):
    assert read(write("a.csv", "Text, LABEL\nx,1\n")) == [([("x", False)], "1")]


@pytest.mark.parametrize(
    "fields, record, expected",
    [
        (
            {"prompt_field": "question", "completion_field": "Best answer"},
            {"question": "a", " best Answer": "b"},
            "pairs",
        ),
        (
            {"prompt_field": "prompt", "completion_field": "answer"},
            {"prompt": "a", "answer": "b", "completion": 3, "messages": []},
            "pairs",
        ),
        ({"prompt_field": "instruction", "completion_field": "output"}, {"instruction": "a", "output": "b"}, "pairs"),
        ({"messages_field": "chat"}, {"chat": [{"role": "assistant", "content": "b"}], "text": "", "label": 1}, "chat"),
        ({"text_field": "review", "label_field": "stars"}, {"review": "a", "stars": 5, "text": 3}, "label"),
        ({"text_field": "x,Y"}, {"x": "a", "y": "b", "label": "c"}, "two"),
    ],
)
def test_flags_name_the_fields(write, fields, record, expected):
    """Only examples that have such fields are meant, whatever else the records have."""
    values = {
        "pairs": ([("a", False), ("b", True)], ""),
        "chat": ([("Assistant:", False), (" b", True), ("", False)], ""),
        "label": ([("a", False)], "5"),
        "two": ([("a", False), ("b", False)], "c"),
    }
    assert read(write("a.jsonl", [record]), **fields) == [values[expected]]


def test_names_that_no_example_has_are_one_line(write):
    path = write("a.jsonl", [{"question": "a", "answer": "b"}])
    for fields, error, message in (
        (
            {"prompt_field": "question"},
            DataError,
            "'question', 'answer', and an example has question and completion, or ",
        ),
        (
            {"prompt_field": "x", "label_field": "a b"},
            UsageError,
            "^--prompt-field x --label-field 'a b': an example ha",
        ),
    ):
        with pytest.raises(error, match=message):
            read(path, **fields)
    with pytest.raises(UsageError, match="--text-field a,b,c: an example has one text or two"):
        FieldNames(text_field="a,b,c")


KINDS = (
    "text and label, or text_a and text_b and label, or messages, or conversations, or messages and completion, or "
    "prompt and completion, or instruction and output, or prompt and chosen and rejected, or "
    "messages and chosen and rejected, or prompt and completion and good"
)


@pytest.mark.parametrize(
    "records, message",
    [
        (
            [{"question": "x", "answer": "y"}],
            f", line 1: its fields are 'question', 'answer', and an example has {KINDS}; name them with "
            "--prompt-field, --completion-field, --chosen-field, --rejected-field, --messages-field, --text-field, "
            "--label-field; a plain text is a .txt file",
        ),
        (
            [{"prompt": "x", "completion": "y", "messages": []}],
            ", line 1: its fields are 'prompt', 'completion', 'messages', and an example has messages and "
            "completion, or prompt and completion, not both; name them with --prompt-field, --completion-field, "
            "--messages-field, or remove one",
        ),
        (
            [{"prompt": "x", "completion": "y"}, {"instruction": "x", "output": "y"}],
            ", line 2: its fields are 'instruction', 'output', and an example has prompt and completion; "
            "name them with --prompt-field, --completion-field; a plain text is a .txt file",
        ),
    ],
    ids=["none", "two", "not that of the first"],
)
def test_the_fields_of_no_kind_or_of_two_are_one_line(write, records, message):
    path = write("a.jsonl", records)
    with pytest.raises(DataError) as error:
        read(path)
    assert str(error.value) == path + message


@pytest.mark.parametrize(
    "prompt",
    [
        {"prompt": "a"},
        {
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": "b"},
                {"role": "user", "content": "c"},
            ]
        },
    ],
    ids=["prompt", "messages"],
)
def test_a_judged_answer_is_a_pair_for_a_run_that_learns_pairs_and_else_a_completion(write, prompt):
    """Its text is that of a record with the fields of one kind alone; such records may be in the same file."""
    pair, completion = prompt | {"chosen": "d", "rejected": "e"}, prompt | {"completion": "d"}
    both = pair | completion | {"annotator": "anna", "choice": 1}
    orders = (formats.KINDS, completion, "completions"), (put_pairs_first(formats.KINDS), pair, "preferences")
    for kinds, alone, name in orders:
        path = write("a.jsonl", [both, alone, both])
        kind, examples = parse_examples(path, read_content(path), kinds)
        texts = [example.segments for example in examples]
        assert kind.name == name and texts == [texts[0]] * 3
        alone = write("b.jsonl", [alone])
        assert texts[0] == next(parse_examples(alone, read_content(alone))[1]).segments
    with pytest.raises(DataError, match="messages and completion, or prompt and completion"):
        read(write("a.jsonl", [both | {"prompt": "a", "messages": prompt.get("messages", [])}]))
