import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxgpt.prepare import parquet, parquet_rows
from jaxgpt.prepare.broken import Broken
from tests.prepare.test_parquet import read


def test_a_text_too_long_is_broken_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "RECORD_BYTES", 30)
    pa.parquet.write_table(pa.table({"text": ["a", "b" * 31, "c"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", Broken("text too long", "more than 30 bytes"), "c"]


@pytest.mark.parametrize("encoding", ["DELTA_BYTE_ARRAY", "DELTA_LENGTH_BYTE_ARRAY"])
def test_each_row_of_a_row_group_too_large_is_counted_and_the_next_is_read(tmp_path, monkeypatch, encoding):
    """Only PLAIN texts and dictionaries are read from pages that are too large for pyarrow."""
    texts = ["a" * 3000] * 2 + ["b"] * 2
    how = {"row_group_size": 2, "use_dictionary": False, "column_encoding": {"text": encoding}}
    pa.parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", **how)
    monkeypatch.setattr(parquet, "PAGE_BYTES", 2900)
    first, second, *rest = read(tmp_path / "a.parquet")
    assert first == second and first.reason == "row group too large" and rest == ["b", "b"]
    assert "a large page whose encoding is number" in first.detail


def test_bytes_in_large_pages_are_no_texts(tmp_path, monkeypatch):
    pa.parquet.write_table(pa.table({"text": [b"a" * 5000]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4000)
    assert [each.reason for each in read(tmp_path / "a.parquet")] == ["row group too large"]


def test_more_rows_than_pyarrow_writes_are_not_counted(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet_rows, "MAX_ROWS", 2)
    pa.parquet.write_table(pa.table({"text": ["a", "b", "c"]}), tmp_path / "a.parquet")
    assert [each.reason for each in read(tmp_path / "a.parquet")] == ["row group too large"]


def test_metadata_too_large_says_so(tmp_path, monkeypatch):
    pa.parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "METADATA_STRUCTS", 2)
    parquet._require_small_metadata.cache_clear()
    (broken,) = read(tmp_path / "a.parquet")
    assert broken.reason == "metadata too large" and "row groups and the like; write it with fewer" in broken.detail
    monkeypatch.setattr(parquet, "METADATA_BYTES", 100)
    parquet._require_small_metadata.cache_clear()
    (broken,) = read(tmp_path / "a.parquet")
    assert broken.reason == "metadata too large" and "more than 100; write it with fewer columns" in broken.detail


def test_a_dictionary_of_categories_and_other_types(tmp_path):
    pa.parquet.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", "b", "a"]
    for column in ([1, 2], [["a"], ["b", "c"]], [{"a": 1}, None], [b"a", b"b"]):
        pa.parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        assert [each.reason for each in read(tmp_path / "a.parquet")] == ["not a text"] * 2
