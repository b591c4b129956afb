import io

from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data.documents import is_separator, normalize, split_documents

PARTS = ["<|endoftext|>", "\n", "\r\n", "\r", " ", "\t", "\x0b", "\x0c", "\x1c", "\u3000", "\u2028", "\ufeff", "a"]


@given(st.lists(st.sampled_from(PARTS)).map("".join))
def test_a_text_is_split_at_the_lines_that_separate_documents(text):
    """Against the lines one by one, as `jaxgpt prepare` reads them."""
    parts = [""]
    for line in io.BytesIO(text.encode()):
        if is_separator(line):
            parts.append("")
        else:
            parts[-1] += line.decode()
    assert split_documents(text) == [normalize(part) for part in parts]


@given(st.lists(st.sampled_from(PARTS)).map("".join))
def test_a_separator_is_endoftext_and_blanks_alone(text):
    """Against Python's own strip of bytes."""
    for line in io.BytesIO(text.encode()):
        assert is_separator(line) == (line.removeprefix("\ufeff".encode()).strip() == b"<|endoftext|>")
