import datetime
import decimal
import types

import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxgpt.prepare import parquet, readers, sources

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


def test_metadata_are_read_to_their_end(tmp_path):
    """Of all types that a file may have."""
    nested = [{"a": [1.5, None], "b": {"c": True}, "d": [("k", datetime.datetime(2026, 1, 1))]}] * 50
    kind = pa.struct({"a": pa.list_(pa.float32()), "b": pa.struct({"c": pa.bool_()}), "d": pa.map_("string", "date64")})
    table = pa.table({"text": TEXTS[:50], "x": pa.array(nested, kind), "i": pa.array(range(50), pa.uint8())})
    table = table.append_column("d", pa.array([decimal.Decimal("1.5")] * 50)).replace_schema_metadata({"k": "v"})
    sorting = [pa.parquet.SortingColumn(0)]
    pa.parquet.write_table(table, tmp_path / "a.parquet", row_group_size=7, sorting_columns=sorting)
    content = (tmp_path / "a.parquet").read_bytes()
    size = int.from_bytes(content[-8:-4], "little")
    assert parquet._skip(content[-8 - size : -8], 0, parquet.STRUCT, [500]) == size
    with pytest.raises(OverflowError, match="more than 150,000"):
        parquet._skip(content[-8 - size : -8], 0, parquet.STRUCT, [50])
