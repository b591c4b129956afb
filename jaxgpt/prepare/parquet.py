"""Parquet files, whose sizes are checked before pyarrow takes the memory that they name."""

import functools
import mmap
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

METADATA_BYTES = 8 << 20
METADATA_STRUCTS = 150_000  # columns of row groups, statistics and so on, of which pyarrow makes up to 1,240 bytes each
PAGE_BYTES = 32 << 20  # of a page, packed or not, for pyarrow: it holds a page, a dictionary and a batch at once
BATCH_BYTES = 32 << 20  # of values, of which one at least is read
VALUE_BYTES = 24  # which pyarrow needs for a value of no bytes
FOOTER_BYTES = 8  # the end of a file: the length of its metadata, and PAR1
BOOLEANS, BYTE, INTEGERS, BYTES, LISTS, STRUCT = (1, 2), 3, (4, 5, 6), 8, (9, 10), 12  # of Thrift's compact protocol
FIXED = {BYTE: 1, 7: 8}  # sizes, of a double too
DATA, DICTIONARY, DATA_2 = 0, 2, 3  # kinds of pages
HEADER_FIELD = {DATA: 5, DICTIONARY: 7, DATA_2: 8}  # of what only pages of that kind have


def open_parquet(path: str | Path) -> Any:
    """Open a file. OverflowError: its metadata is too large; OSError, ValueError: it is corrupt."""
    from pyarrow.parquet import ParquetFile

    _require_small_metadata(str(path), os.stat(path).st_mtime_ns)
    return ParquetFile(path, buffer_size=1 << 20)  # without it, all of a column's row group is read at once


@functools.lru_cache(64)  # as a file is opened for each row group
def _require_small_metadata(path: str, changed: int) -> None:
    with open(path, "rb") as file:
        end = file.seek(0, 2)
        file.seek(max(end - FOOTER_BYTES, 0))
        size, mark = int.from_bytes(file.read(4), "little"), file.read(4)
        if mark != b"PAR1" or size < 3 * METADATA_STRUCTS:  # no file, or of three bytes each at least
            return
        if size > METADATA_BYTES:
            raise OverflowError(f"metadata of {size:,} bytes, more than {METADATA_BYTES:,}")
        file.seek(max(end - FOOTER_BYTES - size, 0))
        try:
            _skip(file.read(size), 0, STRUCT, [METADATA_STRUCTS])
        except (IndexError, TypeError, RecursionError):
            raise ValueError("no metadata where they should be") from None


class Page(NamedTuple):
    """A page of a column, by its header.

    Attributes:
      kind: DATA, DICTIONARY or DATA_2.
      header: of its kind: numbers by their fields (https://parquet.apache.org/docs/file-format/metadata/).
      at, packed: where it is in the file, in bytes.
      size: unpacked, in bytes.
      values: how many it has.
    """

    kind: int
    header: dict[int, Any]
    at: int
    packed: int
    size: int
    values: int


def read_pages(path: str | Path, chunk: Any) -> Iterator[Page]:
    """All pages of a column in a row group, a pyarrow.parquet.ColumnChunkMetaData.

    A page's size is in the header before it alone.

    Raises:
      ValueError: there is no page where one should be.
    """
    at, seen = chunk.data_page_offset, 0
    if chunk.has_dictionary_page and chunk.dictionary_page_offset > 0:  # some writers leave it at 0
        at = min(at, chunk.dictionary_page_offset)
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        while seen < chunk.num_values:
            try:
                fields, at = _read_struct(data, at)
                kind, size, packed = fields[1], fields[2], fields[3]
                header = fields[HEADER_FIELD[kind]] if kind in HEADER_FIELD else {1: 0}
                page = Page(kind, header, at, packed, size, header[1])
            except (LookupError, TypeError, RecursionError):
                raise ValueError("no page where one should be") from None
            if not all(type(each) is int and 0 <= each < 1 << 31 for each in (size, packed, page.values)):
                raise ValueError("a page of a negative size, or of more than 2 GiB")
            yield page
            at += packed
            seen += 0 if kind == DICTIONARY else page.values


def batch_rows(path: str | Path, chunk: Any) -> int:
    """How many rows of a column fit into BATCH_BYTES, even if each has a text as large as the largest page.

    A dictionary has a text once that a million rows name.

    Raises:
      OverflowError: a page is too large for pyarrow.
      ValueError: there is no page where one should be.
    """
    largest = 1
    for page in read_pages(path, chunk):
        largest = max(largest, page.size + VALUE_BYTES * page.values, page.packed)
        if largest > PAGE_BYTES:
            raise OverflowError(f"a page of {largest:,} bytes, more than {PAGE_BYTES:,}")
    return max(1, min(BATCH_BYTES // largest, 1024))


def _read_struct(data: mmap.mmap, at: int) -> tuple[dict[int, Any], int]:
    """A struct in Thrift's compact protocol: its numbers, booleans and structs by their fields, and where it ends."""
    fields, number = {}, 0
    while head := data[at]:
        at, kind, delta = at + 1, head & 15, head >> 4
        if not delta:
            delta, at = read_number(data, at)
        number += delta
        if kind in INTEGERS:
            fields[number], at = read_number(data, at)
        elif kind == BYTES:
            size, at = read_number(data, at, signed=False)
            at += size
        elif kind == STRUCT:
            fields[number], at = _read_struct(data, at)
        elif kind in BOOLEANS:
            fields[number] = kind == 1
        else:  # a page's header has no other
            raise TypeError(kind)
    return fields, at + 1


def read_number(data: mmap.mmap | bytes, at: int, signed: bool = True) -> tuple[int, int]:
    value, shift = data[at] & 127, 0
    while data[at] > 127:
        at, shift = at + 1, shift + 7
        if shift > 63:
            raise TypeError("a number of more than 64 bits")
        value |= (data[at] & 127) << shift
    return (value >> 1) ^ -(value & 1) if signed else value, at + 1


def _skip(data: bytes, at: int, kind: int, left: list[float]) -> int:
    """Where a value of Thrift ends.

    Args:
      left: how many structs may be in lists, from here on; a text counts for a sixteenth.

    Raises:
      OverflowError: there are more.
    """
    if kind in INTEGERS:
        return read_number(data, at)[1]
    if kind == BYTES:
        size, at = read_number(data, at, signed=False)
        return at + size
    if kind == STRUCT:
        while head := data[at]:
            at = _skip(data, at + 1 if head >> 4 else read_number(data, at + 1)[1], head & 15, left)
        return at + 1
    if kind in LISTS:
        count, kind, at = data[at] >> 4, data[at] & 15, at + 1
        if count == 15:
            count, at = read_number(data, at, signed=False)
        left[0] -= count * (kind == STRUCT or (kind == BYTES) / 16)
        if left[0] < 0:
            raise OverflowError(f"metadata of more than {METADATA_STRUCTS:,} columns, row groups and the like")
        for _ in range(count):
            at = _skip(data, at, BYTE if kind in BOOLEANS else kind, left)
        return at
    if kind in BOOLEANS or kind in FIXED:
        return at + FIXED.get(kind, 0)
    raise TypeError(kind)  # a map, of which Parquet has none
