import types

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxgpt.prepare import parquet, readers, sources
from jaxgpt.prepare.readers import Broken

TEXTS = [f"text {i} {'a' * (i % 700)}" for i in range(2000)]


def read(path):
    units = [unit for piece in sources.plan_pieces([str(path)]) for unit in piece]
    return [each for unit in units for _, each in readers.READERS["parquet"](unit, "text", readers.LineCounter())]


@pytest.mark.parametrize("version", ["1.0", "2.0"])
@pytest.mark.parametrize("codec", ["NONE", "ZSTD"])
@pytest.mark.parametrize("encoding", [None, "PLAIN", "DELTA_BYTE_ARRAY"])
def test_all_pages_are_found_and_bound_the_batch(tmp_path, monkeypatch, version, codec, encoding):
    """Of files by pyarrow, which knows how many values they have: no page is missed, and none is too large."""
    how = (
        {"use_dictionary": True}
        if encoding is None
        else {"use_dictionary": False, "column_encoding": {"text": encoding}}
    )
    table = pa.table({"id": range(2000), "text": TEXTS})
    settings = {"data_page_size": 5000, "write_batch_size": 50, "data_page_version": version, "compression": codec}
    pa.parquet.write_table(table, tmp_path / "a.parquet", **settings, **how)
    chunk = parquet.open_parquet(tmp_path / "a.parquet").metadata.row_group(0).column(1)
    largest = max(map(len, TEXTS))
    for batch_bytes in (3 << 20, 1 << 20):
        monkeypatch.setattr(parquet, "BATCH_BYTES", batch_bytes)
        rows = parquet.batch_rows(tmp_path / "a.parquet", chunk)
        assert 1 <= rows <= batch_bytes / largest and rows < 1024
    assert read(tmp_path / "a.parquet") == TEXTS
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4000)
    broken, *others = read(tmp_path / "a.parquet")
    assert others == [broken] * 1999  # every row is counted
    assert broken.reason == "row group too large" and "more than 4,000; write it with smaller pages" in broken.detail


def test_a_text_too_long_is_broken_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "RECORD_BYTES", 30)
    pa.parquet.write_table(pa.table({"text": ["a", "b" * 31, "c"]}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", Broken("text too long", "more than 30 bytes"), "c"]


def test_after_a_row_group_too_large_the_next_is_read(tmp_path, monkeypatch):
    texts = ["a" * 3000] * 2 + ["b"] * 2
    pa.parquet.write_table(pa.table({"text": texts}), tmp_path / "a.parquet", row_group_size=2, use_dictionary=False)
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4000)
    monkeypatch.setattr(readers, "MAX_ROWS", 2)
    unit = sources.Unit(str(tmp_path / "a.parquet"), "parquet", 0, 2, 0)
    first, second, *rest = (each for _, each in readers.READERS["parquet"](unit, "text", readers.LineCounter()))
    assert first.reason == second.reason == "row group too large" and rest == ["b", "b"]


def test_a_dictionary_page_without_an_offset_is_none(tmp_path):
    """Some writers say 0, where the file begins and no page is."""
    pa.parquet.write_table(pa.table({"text": TEXTS}), tmp_path / "a.parquet", use_dictionary=False)
    chunk = parquet.open_parquet(tmp_path / "a.parquet").metadata.row_group(0).column(0)
    said = types.SimpleNamespace(
        num_values=chunk.num_values,
        data_page_offset=chunk.data_page_offset,
        has_dictionary_page=True,
        dictionary_page_offset=0,
    )
    assert parquet.batch_rows(tmp_path / "a.parquet", said) == parquet.batch_rows(tmp_path / "a.parquet", chunk)


def test_metadata_too_large_says_so(tmp_path, monkeypatch):
    pa.parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    monkeypatch.setattr(parquet, "METADATA_BYTES", 100)
    (broken,) = read(tmp_path / "a.parquet")
    assert broken.reason == "metadata too large" and "more than 100; write it with fewer columns" in broken.detail


def test_a_dictionary_of_categories_and_other_types(tmp_path):
    pa.parquet.write_table(pa.table({"text": pa.array(["a", "b", "a"]).dictionary_encode()}), tmp_path / "a.parquet")
    assert read(tmp_path / "a.parquet") == ["a", "b", "a"]
    for column in ([1, 2], [["a"], ["b", "c"]], [{"a": 1}, None], [b"a", b"b"]):
        pa.parquet.write_table(pa.table({"text": column}), tmp_path / "a.parquet")
        assert [each.reason for each in read(tmp_path / "a.parquet")] == ["not a text"] * 2
