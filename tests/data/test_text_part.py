import pytest

from jaxgpt.data.datasets import open_data
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.text_part import TextPart, name_of_whole, parse_part, place_of


@pytest.mark.parametrize("share", [0.1, 0.25, 1e-5, 0.999, 1 / 3])
@pytest.mark.parametrize("is_end", [False, True])
def test_a_part_has_a_name_that_gives_it_again(share, is_end):
    part = TextPart("a folder/[1]=,.txt", share, is_end)
    parsed = parse_part(str(part))
    assert (parsed.name, parsed.is_end) == (part.name, is_end) and parsed.share == pytest.approx(share, abs=1e-12)
    assert name_of_whole(str(part)) == part.name


@pytest.mark.parametrize(
    "name", ["", "a.txt", "[-0.1:]", "a[-0.1]", "a[:-0.1:]", "a[0.1:]", "a[:-1]", "a[:-1.5]", "a[:-0.0]", "a[:-1e-3]"]
)
def test_other_names_are_those_of_whole_texts(name):
    assert parse_part(name) is None and name_of_whole(name) == name


def test_a_file_of_that_name_comes_first(tmp_path):
    (tmp_path / "a[-0.1:]").touch()
    assert parse_part(f"{tmp_path}/a[-0.1:]") is None
    assert parse_part(f"{tmp_path}/b[-0.1:]") == TextPart(f"{tmp_path}/b", 0.1, True)


@pytest.mark.parametrize("name", ["a", "a[:-0.2]", "a[-0.2:]", "a[-0.7:][:-0.1]", "a[:-0.1][-0.3:][:-0.5]"])
def test_a_part_of_a_part_is_where_loading_finds_it(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a").write_text("".join(chr(32 + i % 90) for i in range(1001)))
    tokens = open_data("a", 1, 8, tokenizer=ByteTokenizer()).tokens
    first, end = place_of(name, len(tokens))
    assert open_data(name, 1, 8, tokenizer=ByteTokenizer()).tokens.tolist() == tokens[first:end].tolist()
    assert name_of_whole(name) == "a"
