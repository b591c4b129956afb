"""JSON that anyone may have written: the same as Python's own parser gives, or a reason."""

import json
import os

import pytest

from jaxgpt.json_file import MAX_BYTES, MAX_DEPTH, parse_json, read_json, read_object, try_read_json

DEEPEST = MAX_DEPTH * "[" + "7" + MAX_DEPTH * "]"


def test_what_is_written_is_read(tmp_path):
    content = {"a": [1, -(10**17), 1.5, None, True], "\ud800": "ü", "d": {}}
    (tmp_path / "a.json").write_text(json.dumps(content))
    assert read_json(tmp_path / "a.json") == content
    assert parse_json(DEEPEST.encode()) == json.loads(DEEPEST)
    assert parse_json(b"\xef\xbb\xbf" + json.dumps(content, indent=2).encode()) == content


def test_an_integer_fits_into_64_bits():
    numbers = parse_json(f"[{2**63}, {10**400}, {-(10**400)}, {10**18 - 1}, {'9' * 5000}]".encode())
    assert numbers == [2.0**63, float("inf"), float("-inf"), 10**18 - 1, float("inf")]
    assert [type(number) for number in numbers] == [float, float, float, int, float]


@pytest.mark.parametrize(
    "content, reason",
    [
        (b"", "Expecting value"),
        (b'{"a": 1', "Expecting ',' delimiter"),
        (b"\0", "Expecting value"),
        (b'"\xff"', "codec can't decode byte 0xff"),
        (b'"\xed\xa0\x80"', "codec can't decode byte 0xed"),
        (f"[{DEEPEST}]".encode(), "nested more than 50 levels deep"),
        (b"[" * 10**6, "nested more than 50 levels deep"),
        (b'{"a":' * 10**5, "nested more than 50 levels deep"),
    ],
    ids=lambda value: "" if isinstance(value, bytes) else value,
)
def test_what_is_no_json_has_a_reason(tmp_path, content, reason):
    (tmp_path / "a.json").write_bytes(content)
    with pytest.raises(ValueError, match=reason):
        read_json(tmp_path / "a.json")
    assert try_read_json(tmp_path / "a.json") is None


def test_what_is_no_file_of_some_size_has_a_reason(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with (tmp_path / "large").open("wb") as file:
        file.truncate(MAX_BYTES + 1)
    (tmp_path / "endless").symlink_to("/dev/zero")
    for name, reason in (
        ("pipe", "not a regular file"),
        ("endless", "not a regular file"),
        ("", "not a regular file"),
        ("large", "more than 12,582,912 bytes"),
        ("large/a", "Not a directory"),
        ("a" * 300, "File name too long"),
        ("\0", "null byte"),
    ):
        with pytest.raises(ValueError, match=reason):
            read_json(tmp_path / name)
    with (tmp_path / "large").open("r+b") as file:
        file.write(b"0".ljust(MAX_BYTES + 1))
    assert read_json(tmp_path / "large", MAX_BYTES + 1) == 0  # meta.json has a line for each shard
    with pytest.raises(ValueError, match="not a JSON object"):
        read_object(tmp_path / "large", MAX_BYTES + 1)
    with pytest.raises(FileNotFoundError):
        read_json(tmp_path / "missing")
    assert try_read_json(tmp_path / "missing") is None
