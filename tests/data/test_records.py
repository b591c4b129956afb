"""JSONL files, and the line of every invalid record."""

import pytest

from jaxgpt.data import records
from jaxgpt.errors import DataError


@pytest.fixture
def read(tmp_path):
    def read(content):
        (tmp_path / "a.jsonl").write_bytes(content)
        return records.read_jsonl(tmp_path / "a.jsonl")

    return read


def test_the_objects_and_their_lines(read):
    content = '{"a": 1}\n\n  \r\n{"b": "na\u00efve\u2028\\ud83d\\ude00"}\r\n{"c": []}'.encode()
    expected = [(1, {"a": 1}), (4, {"b": "na\u00efve\u2028\U0001f600"}), (5, {"c": []})]
    assert read(content) == read(b"\xef\xbb\xbf" + content) == expected


def test_what_nobody_reads_may_be_no_text_and_no_number(read):
    ((line, record),) = read(b'{"text": "one", "a": [NaN, -Infinity, 1e999], "\\ude00": "half \\ud83d"}')
    assert line == 1 and records.require_text("here", record, "text") == "one"
    with pytest.raises(DataError, match=r"^here: a lone surrogate, half of a \\u pair, is no text; write it again$"):
        records.require_text("here", record, "\ude00")


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "a.jsonl: the file is empty"),
        (b"\n \n", "a.jsonl: the file is empty"),
        (b'{}\n\n{"a": }\n', "a.jsonl, line 3: not JSON (Expecting value, column 7); mend or remove the line"),
        (b"{}\nnonsense", "a.jsonl, line 2: not JSON"),
        (b"{}\n[1, 2]", "a.jsonl, line 2: not a JSON object"),
        (b'"text"', "a.jsonl, line 1: not a JSON object"),
        ('{"a": 1}\n'.encode("utf-16"), "a.jsonl: not UTF-8 but UTF-16; convert it first: iconv -f utf-16 -t utf-8"),
        ('{"a": 1}\n'.encode("utf-16-le"), "a.jsonl: 9 of 18 bytes are 0, as in UTF-16 without a byte"),
        (
            b'{}\n{"a": "caf\xe9"}',
            "a.jsonl, line 2: not UTF-8 (byte 0xe9 at offset 10 of the line); convert the file first",
        ),
        (b"[" * 100_000, "a.jsonl, line 1: can't be read"),
        (b'{"a": 1' + b"0" * 5000 + b"}", "a.jsonl, line 1: can't be read"),
        (b'{}\n{"a": "%s"}' % (b"b" * (8 << 20)), "a.jsonl, line 2: line too long (more than 8,388,608 bytes); mend"),
        (b'{"a": "%s"}' % (b"\\u0434" * (8 << 20)), "a.jsonl, line 1: line too long"),
        (b'{"a": "%s"}' % (rb"\\u" * (3 << 20)), "a.jsonl, line 1: line too long"),
        (b'{"a": [%s0]}' % (b"[]," * (1 << 19)), "a.jsonl, line 1: can't be read (more than 524,288 brackets); mend"),
    ],
)
def test_an_invalid_file_is_a_one_line_error(read, content, message):
    with pytest.raises(DataError) as caught:
        read(content)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name, message", [("nowhere", "no such file"), ("", "Is a directory"), ("a\0b", "null")])
def test_an_unreadable_file_is_a_one_line_error(tmp_path, name, message):
    with pytest.raises(DataError, match=message):
        records.read_jsonl(f"{tmp_path}/{name}")


def test_a_table_is_read_in_linear_time_and_a_cell_too_long_is_a_one_line_error():
    names = b",".join(b"%x" % number for number in range(100_000))
    ((line, row),) = records.parse_table("a.csv", names + b"\n" + b"," * 99_999, ",")  # seconds, not minutes
    assert line == 2 and len(row) == 100_000
    with pytest.raises(DataError, match=r"a\.csv, line 2: field larger than field limit \(8388608\); mend"):
        list(records.parse_table("a.csv", b"text\n" + b"a" * (8 << 20) + b"b\n", ","))


@pytest.mark.parametrize(
    ("value", "words"),
    [
        *[(7, "7"), (-0.5, "-0.5"), (True, "True"), ("2", "'2'"), ("6.1", "'6.1'"), (float("nan"), "nan")],
        *[("Ada", "of type str"), ("", "of type str"), ("4915112345678", "of type str"), ("1 Ada", "of type str")],
        *[(["Ada"], "of type list"), ({"Ada": 1}, "of type dict"), (None, "of type NoneType")],
    ],
)
def test_an_error_has_the_type_of_a_value_that_may_be_private(value, words):
    assert records.describe_value(value) == words


def test_an_error_lists_the_names_of_fields_but_not_a_first_record():
    record = {"Ada": "a", "1815": "b"}
    assert records.describe_fields("a.jsonl", record, ["text"]) == "its fields are 'Ada', '1815'"
    assert records.describe_fields("a.csv", record, ["text"]) == "its first line names 2 fields"
    assert records.describe_fields("a.csv", record | {"Text": ""}, ["text"]) == "its fields are 'Ada', '1815', 'Text'"
