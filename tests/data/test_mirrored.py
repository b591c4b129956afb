"""Which documents a text has, and which are left out."""

import pytest

from jaxgpt.data.mirrored import MirroredText, read_mirrored
from jaxgpt.data.word_swaps import read_word_swaps
from jaxgpt.errors import DataError

PAIR = ("He ran.", "She ran.")


@pytest.mark.parametrize(
    "name, content, unit, without",
    [
        ("a.jsonl", [{"text": "He ran."}, {"text": "No."}, {"text": " "}], "document", 1),
        ("a.txt", "He ran.\n<|endoftext|>\nNo.\n\nNo.\n<|endoftext|>\n", "document", 1),
        ("a.txt", "\ufeffHe ran.\r\n\r\nNo.\r\n \r\n\r\nNo.", "paragraph", 2),
    ],
)
def test_a_document_is_a_record_or_a_part_of_a_text(write, name, content, unit, without):
    path = write(name, content)
    assert read_mirrored(path, read_word_swaps()) == MirroredText(path, unit, [PAIR], 1, without)


def test_a_text_without_a_word_of_the_list_is_refused(write):
    with pytest.raises(DataError, match=r"a\.txt: no word of the list default is in it; use another text or another"):
        read_mirrored(write("a.txt", "Nothing."), read_word_swaps())
    with pytest.raises(DataError, match="not UTF-8"):
        read_mirrored(write("a.txt", b"\xff he"), read_word_swaps())
    with pytest.raises(DataError, match=r"line 1: no field 'text'"):
        read_mirrored(write("a.jsonl", [{"t": "he"}]), read_word_swaps())
