"""Which kind of example a record is, by its fields."""

import pytest

from jaxgpt.data.formats import read_examples
from jaxgpt.errors import DataError


@pytest.mark.parametrize(
    "record, message",
    [
        (
            {"question": "x", "answer": "y"},
            ", line 1: its fields are 'question', 'answer', and an example has text and label, or text_a and "
            "text_b and label, or messages, or prompt and completion; a plain text needs another name, such as .txt",
        ),
        (
            {"prompt": "x", "completion": "y", "messages": []},
            ", line 1: its fields are 'prompt', 'completion', 'messages', and an example has messages, or prompt and "
            "completion, not both; remove one",
        ),
    ],
    ids=["none", "two"],
)
def test_the_fields_of_no_kind_or_of_two_are_one_line(write, record, message):
    path = write("a.jsonl", [record])
    with pytest.raises(DataError) as error:
        read_examples(path)
    assert str(error.value) == path + message
