from jaxgpt.prepare import documents


def test_a_long_text_is_cut_at_line_ends_and_loses_nothing():
    text = "word " * 30 + "\n" + "x" * 500 + "\n" + "a b\n" * 40
    parts = list(documents.split_long_text(text, 100))
    assert "".join(parts) == text and max(map(len, parts)) <= 100
    assert sum(part.endswith(("\n", " ")) for part in parts) == len(parts) - 5  # within the x there is nowhere to cut
    assert list(documents.split_long_text("short")) == ["short"]
