"""The texts and broken records of every kind of input, each with its line.

datatrove's readers skip a broken line with a message in a log; these report it with its line number. None holds more
than a record of RECORD_BYTES, whatever a file says or unpacks to, and each reads what it unpacks once.
"""

import csv
import io
import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from jaxgpt.data.documents import is_separator, normalize
from jaxgpt.data.records import (
    JSON_LINE_BYTES,
    RECORD_BYTES,
    RecordError,
    find_name,
    is_blank,
    is_unicode,
    parse_record,
)
from jaxgpt.prepare import warc
from jaxgpt.prepare.compression import UNREADABLE, describe, open_file
from jaxgpt.prepare.pages import PageTooLarge, extract_text
from jaxgpt.prepare.parquet import batch_rows, open_parquet
from jaxgpt.prepare.sources import COMPRESSED, CUT_BYTES, TABLES, Unit, open_dataset
from jaxgpt.prepare.tables import read_rows

MAX_ROWS = 1 << 26  # in a row group of Parquet, the most that pyarrow writes


class LineCounter:
    """Counts the lines, or rows, of a unit that were read."""

    count = 0


class Broken(NamedTuple):
    """A record that is no document: the reason, which the report counts, and details about this record."""

    reason: str
    detail: str = ""


Records = Iterator[tuple[int, str | Broken]]  # each with its line in the unit, from 1


def _read_lines(unit: Unit, counter: LineCounter, limit: int, split: bool = False) -> Iterator[bytes | Broken]:
    """The lines that begin in a unit, with their line ends; Broken for too long ones and for corrupt compression.

    Args:
      limit: of a line, in bytes.
      split: give a longer line in parts, each of whole characters, in place of Broken.
    """
    is_compressed = Path(unit.name).suffix.lower() in COMPRESSED
    with open_file(Path(unit.name)) as file:
        position = unit.start
        if position:  # the line in which the unit begins belongs to the unit before
            file.seek(position - 1)
            position -= 1
            while position < unit.end:
                part = file.readline(1 << 20)
                position += len(part)
                if not part or part.endswith(b"\n"):
                    break
        while is_compressed or position < unit.end:
            try:
                line = file.readline(limit)
                if not line:
                    return
                position += len(line)
                counter.count += 1
                if not split and len(line) == limit and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = file.readline(1 << 20)
                        position += len(line)
                    yield Broken("line too long", f"more than {limit:,} bytes")
                    continue
                while len(line) == limit and not line.endswith(b"\n"):
                    end = _last_character(line)
                    yield line[:end]
                    part = file.readline(limit - len(line) + end)
                    position += len(part)
                    line = line[end:] + part
            except UNREADABLE as error:
                counter.count += 1
                yield Broken("corrupt file", f"nothing can be decompressed from here on: {describe(error)}")
                return
            yield line


def _last_character(line: bytes) -> int:
    """Where the last character of a part of UTF-8 begins, whether or not it is there in whole."""
    start = len(line) - 1
    while start > len(line) - 4 and line[start] & 0xC0 == 0x80:
        start -= 1
    return start


def _read_text(unit: Unit, field: str, counter: LineCounter) -> Records:
    del field
    first, pending, is_whole = 1, bytearray(), True  # whether the last part ended its line

    def document() -> str | Broken:
        try:
            return normalize(pending.decode("utf-8"))
        except UnicodeDecodeError as error:
            return Broken("not UTF-8", f"byte 0x{pending[error.start]:02x}, {error.start:,} bytes into the document")

    empty = not unit.start  # whether the whole file has no text
    for line in _read_lines(unit, counter, RECORD_BYTES, split=True):
        if isinstance(line, Broken):
            empty = False
            yield counter.count, line
        elif not (is_whole and is_separator(line)):
            pending += line
            is_whole = line.endswith(b"\n")
            empty = empty and not line.strip()
            if len(pending) < CUT_BYTES:  # only a compressed file, which could not be cut before, reaches it
                continue
        if pending.strip():
            yield first, document()
        pending, first = bytearray(), counter.count + is_whole
    if empty or pending.strip():
        yield first, document()


def _read_jsonl(unit: Unit, field: str, counter: LineCounter) -> Records:
    for line in _read_lines(unit, counter, JSON_LINE_BYTES):
        if isinstance(line, Broken):
            yield counter.count, line
        elif not is_blank(line):
            try:
                yield counter.count, _get_text(parse_record(line), field)
            except RecordError as error:
                yield counter.count, Broken(error.reason, error.detail)


def _get_text(record: dict[str, Any], field: str) -> str | Broken:
    if (name := find_name(field, record)) is None:
        return Broken("no text", f"{len(record)} fields, and none is {field!r}")
    text = record[name]  # a report shows nothing of it: it may be private
    if not isinstance(text, str):
        return Broken("not a text", f"{field!r} is a {type(text).__name__}")
    if len(text) > RECORD_BYTES:
        return Broken("text too long", f"more than {RECORD_BYTES:,} characters")
    return text if is_unicode(text) else Broken("not Unicode", "a lone surrogate, half of a \\u pair")


def _read_table(unit: Unit, field: str, counter: LineCounter) -> Records:
    delimiter = TABLES[f".{unit.kind}"]
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # as records.read_table
    csv.field_size_limit(RECORD_BYTES)
    try:
        with open_file(Path(unit.name)) as file:
            # Bytes that are not UTF-8 become surrogates, so that only their row is lost.
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            rows = (row for row in read_rows(text, counter, delimiter=delimiter, quoting=quoting) if row[1])
            line, names = next(rows, (1, []))
            if isinstance(names, csv.Error):
                yield line, Broken("not CSV", str(names))
                names = []
            name = find_name(field, names)
            # Not the names: without a header these are a record's texts.
            listed = f"the {len(names)} of the first line"
            problem = _describe_names(field, names, listed) if names.count(name) != 1 else None
            for line, row in rows:
                if isinstance(row, csv.Error):
                    yield line, Broken("not CSV", str(row))
                elif problem:
                    yield line, problem
                elif len(row) != len(names):
                    yield line, Broken("not CSV", f"{len(row)} fields, and the first line names {len(names)}")
                else:
                    cell = row[names.index(name)]
                    yield line, cell if is_unicode(cell) else Broken("not UTF-8")
    except UNREADABLE as error:
        yield counter.count + 1, Broken("corrupt file", describe(error))


def _describe_names(field: str, names: list[str], listed: str) -> Broken:
    number = "no" if find_name(field, names) is None else "more than one"
    return Broken("no text", f"{number} field {field!r} among {listed}"[:200])


def _read_parquet(unit: Unit, field: str, counter: LineCounter) -> Records:
    from pyarrow import ArrowException, set_memory_pool, system_memory_pool

    set_memory_pool(system_memory_pool())  # pyarrow's own keeps what a large page took
    try:
        with open_parquet(unit.name) as parquet:
            for group in range(unit.start, unit.end):
                for text in _read_row_group(parquet, group, unit.name, field):
                    counter.count += 1
                    yield counter.count, text
    except MemoryError:  # which one of Arrow's is, too
        raise
    except OverflowError as error:
        reason = f"{error}; write it with fewer columns and row groups, or as several files"
        yield counter.count + 1, Broken("metadata too large", reason)
    except (ArrowException, *UNREADABLE) as error:
        yield counter.count + 1, Broken("corrupt file", describe(error))


def _get_cell(value: Any, field: str) -> str | Broken:
    from pyarrow import BinaryScalar

    if isinstance(value, BinaryScalar) and value.is_valid and value.as_buffer().size > RECORD_BYTES:
        return Broken("text too long", f"more than {RECORD_BYTES:,} bytes")
    try:
        return _get_text({field: value.as_py()}, field)
    except UnicodeDecodeError:
        return Broken("not UTF-8")


def _read_row_group(parquet: Any, group: int, path: str, field: str) -> Iterator[str | Broken]:
    from pyarrow import default_memory_pool, types

    schema, rows = parquet.schema_arrow, parquet.metadata.row_group(group)
    if rows.num_rows > MAX_ROWS:
        yield _too_large(f"{rows.num_rows:,} rows, more than {MAX_ROWS:,}")
        return
    name = find_name(field, schema.names)
    if schema.names.count(name) != 1:
        listed = ", ".join(f"{name!r:.200}" for name in schema.names[:99])
        yield from itertools.repeat(_describe_names(field, schema.names, listed), rows.num_rows)
        return
    columns = [column for column in map(rows.column, range(rows.num_columns)) if column.path_in_schema == name]
    if not columns or types.is_nested(schema.field(name).type):  # a row may have any number of values
        kind = f"{schema.field(name).type}"
        yield from itertools.repeat(Broken("not a text", f"{field!r} is a {kind:.80}"), rows.num_rows)
        return
    try:
        batch_size = batch_rows(path, columns[0])
    except OverflowError as error:
        yield from itertools.repeat(_too_large(str(error)), rows.num_rows)
        return
    batches = parquet.iter_batches(batch_size, row_groups=[group], columns=[name])
    while batch := next(batches, None):
        column = batch.column(0)
        for value in column.dictionary_decode() if types.is_dictionary(column.type) else column:
            yield _get_cell(value, field)
        batch = column = value = None  # before the next is read
    default_memory_pool().release_unused()  # of the largest page


def _too_large(reason: str) -> Broken:
    return Broken("row group too large", f"{reason}; write it with smaller pages and row groups")


def _read_warc(unit: Unit, field: str, counter: LineCounter) -> Records:
    """A crawl's pages: the main text of HTML, by trafilatura; the records of a WET file are text already."""
    from datatrove.pipeline.readers.warc import process_record
    from warcio.exceptions import ArchiveLoadFailed

    del field
    try:
        with open_file(Path(unit.name)) as content:
            for record, is_too_long in warc.read_records(content):
                counter.count += 1
                if is_too_long:
                    yield counter.count, Broken("page too long", f"more than {RECORD_BYTES:,} bytes")
                    continue
                try:
                    page = process_record(record)
                    # Not datatrove's own step, which drops a page after a second: that depends on the machine's load.
                    html = page and record.rec_type == "response"
                    text = extract_text(page["text"]) if html else None
                except MemoryError:
                    raise
                except PageTooLarge as error:
                    yield counter.count, Broken("page too large", str(error))
                    continue
                except Exception as error:  # of a parser, on a page that it was not made for
                    yield counter.count, Broken("unreadable page", type(error).__name__)
                    continue
                if page:
                    yield counter.count, (text if html else page["text"]) or Broken("no main text")
                elif record.rec_type in warc.KINDS and warc.payload_type(record) in warc.PAGES:
                    yield counter.count, Broken("unreadable page", "of no known encoding")
    except (ArchiveLoadFailed, *UNREADABLE) as error:
        yield counter.count + 1, Broken("corrupt file", type(error).__name__)


def _read_hub(unit: Unit, field: str, counter: LineCounter) -> Records:
    for record in open_dataset(unit.name).shard(unit.end, unit.start):
        counter.count += 1
        yield counter.count, _get_text(record, field)


READERS = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_table,
    "tsv": _read_table,
    "parquet": _read_parquet,
    "warc": _read_warc,
    "hf": _read_hub,
}
