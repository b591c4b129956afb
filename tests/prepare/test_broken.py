import pytest

from jaxgpt.prepare import broken


@pytest.mark.parametrize(
    ("record", "result"),
    [
        ({"text": "a"}, "a"),
        ({" Text": "a"}, "a"),
        ({"words": "private"}, ("no text", "1 fields, and none is 'text'")),
        ({"text": 7}, ("not a text", "'text' is a int")),
        ({"text": "\ud800"}, ("not Unicode", "a lone surrogate, half of a \\u pair")),
    ],
)
def test_the_text_of_a_record_or_why_it_has_none(record, result):
    assert broken.get_text(record, "text") == result


def test_fields_of_a_name():
    assert broken.describe_names("text", ["a"], "1 field").detail == "no field 'text' among 1 field"
    assert broken.describe_names("text", ["text"] * 2, "2").detail == "more than one field 'text' among 2"
