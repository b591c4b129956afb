import contextlib
import io
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data import corpus, examples
from jaxgpt.data.documents import find_jsonl_command, is_separator, normalize, require_text_format, split_documents
from jaxgpt.errors import DataError

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


def test_tables_become_examples_by_the_command_that_is_named(tmp_path, write, monkeypatch, capfd):
    """As datasets writes them; with a quote and a letter that is not ASCII in their names."""
    datasets = pytest.importorskip("datasets")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    pairs = [{"prompt": f"{i}?", "completion": f" {i}!"} for i in range(3)]
    expected = examples.load(write("pairs.jsonl", pairs), 2, 8)[0].fingerprint
    table = datasets.Dataset.from_list(pairs)
    names = ["it's \N{GRINNING FACE}.parquet", "saved", "splits"]
    with contextlib.chdir(tmp_path):
        table.to_parquet(names[0])
        table.save_to_disk("saved")
        datasets.DatasetDict(train=table, test=table.select([0])).save_to_disk("splits")
        for name in [*names, "saved/data-00000-of-00001.arrow"]:
            command = find_jsonl_command(name)
            python, option, code = shlex.split(command)
            assert (python, option) == ("python", "-c")
            for refuse in (corpus.load, lambda name: examples.load_labelled(name, 2, 8, ["a", "b"])):
                with pytest.raises(DataError) as error:
                    refuse(name)
                assert str(error.value).startswith(f"{name}: ") and str(error.value).endswith(command)
            exec(code)
            made = f"{name.rpartition('/')[2]}.jsonl"
            assert examples.load(made, 2, 8)[0].fingerprint == expected


def test_tables_of_datasets_are_no_texts(tmp_path):
    """Of jaxgpt prepare, too, which reads the texts in Parquet."""
    (tmp_path / "a.arrow").touch()
    (tmp_path / "a.parquet").touch()
    (tmp_path / "folder").mkdir()
    for file in ("a.parquet", "folder"):
        require_text_format(f"{tmp_path}/{file}")
    (tmp_path / "folder/dataset_dict.json").touch()
    for name in ("a.arrow", "folder"):
        with pytest.raises(DataError, match="a table of the library datasets, not a text; make JSONL of it: python -c"):
            require_text_format(f"{tmp_path}/{name}")
