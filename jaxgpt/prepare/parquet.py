"""Parquet files, whose sizes are checked before pyarrow takes the memory that they name."""

import mmap
from pathlib import Path
from typing import Any

METADATA_BYTES = 8 << 20
PAGE_BYTES = 64 << 20  # of a page, compressed or not: pyarrow holds a page, a dictionary and a batch at once
BATCH_BYTES = 32 << 20  # of values, of which one at least is read
VALUE_BYTES = 24  # which pyarrow needs for a value of no bytes
FOOTER_BYTES = 8  # the end of a file: the length of its metadata, and PAR1
VALUES_FIELD = {0: 5, 2: 7, 3: 8}  # in the header of a data page, a dictionary, a data page of version 2


def open_parquet(path: str | Path) -> Any:
    """Open a file. OverflowError: its metadata is too large; OSError, pyarrow.ArrowException: it is corrupt."""
    from pyarrow.parquet import ParquetFile

    with open(path, "rb") as file:
        file.seek(max(file.seek(0, 2) - FOOTER_BYTES, 0))
        size, mark = int.from_bytes(file.read(4), "little"), file.read(4)
    if mark == b"PAR1" and size > METADATA_BYTES:
        raise OverflowError(f"metadata of {size:,} bytes, more than {METADATA_BYTES:,}")
    return ParquetFile(path, buffer_size=1 << 20)  # without it, all of a column's row group is read at once


def batch_rows(path: str | Path, chunk: Any) -> int:
    """How many rows of a column fit into BATCH_BYTES, even if each has a text as large as the largest page.

    A dictionary has a text once that a million rows name. A page's size is in the header before it alone, so all
    headers are read (https://parquet.apache.org/docs/file-format/data-pages/).

    Args:
      chunk: the column in a row group, a pyarrow.parquet.ColumnChunkMetaData.

    Raises:
      OverflowError: a page is too large.
      ValueError: there is no page where one should be.
    """
    at, seen, largest = chunk.data_page_offset, 0, 1
    if chunk.has_dictionary_page and chunk.dictionary_page_offset > 0:  # some writers leave it at 0
        at = min(at, chunk.dictionary_page_offset)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        try:
            while seen < chunk.num_values:
                header, at = _read_struct(data, at)
                kind, size, packed = header[1], header[2], header[3]
                values = header[VALUES_FIELD[kind]][1] if kind in VALUES_FIELD else 0
                need = max(size + VALUE_BYTES * values, packed)
                if min(size, packed, values) < 0:
                    raise ValueError("a page of negative size")
                if need > PAGE_BYTES:
                    raise OverflowError(f"a page of {need:,} bytes, more than {PAGE_BYTES:,}")
                largest, at = max(largest, need), at + packed
                seen += 0 if kind == 2 else values
        except (LookupError, TypeError):
            raise ValueError("no page where one should be") from None
    return max(1, min(BATCH_BYTES // largest, 1024))


def _read_struct(data: mmap.mmap, at: int) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol: the numbers and structs in it by their fields, and where it ends."""
    fields, number = {}, 0
    while head := data[at]:
        at, kind, delta = at + 1, head & 15, head >> 4
        if not delta:
            delta, at = _read_number(data, at)
        number += delta
        if kind in (4, 5, 6):  # integers
            fields[number], at = _read_number(data, at)
        elif kind == 8:  # bytes
            size, at = _read_number(data, at, signed=False)
            at += size
        elif kind == 12:
            fields[number], at = _read_struct(data, at)
        elif kind not in (1, 2):  # true and false; a page's header has no other
            raise TypeError(kind)
    return fields, at + 1


def _read_number(data: mmap.mmap, at: int, signed: bool = True) -> tuple[int, int]:
    value, shift = data[at] & 127, 0
    while data[at] > 127:
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise TypeError("a number of more than 64 bits")
        value |= (data[at] & 127) << shift
    return (value >> 1) ^ -(value & 1) if signed else value, at + 1
