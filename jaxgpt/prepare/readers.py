"""The texts and broken records of every kind of input, each with its line.

datatrove's readers skip a broken line with a message in a log; these report it with its line number. None holds more
than a record of RECORD_BYTES, whatever a file says or unpacks to, and each reads what it unpacks once.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path

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
from jaxgpt.prepare.broken import Broken, LineCounter, Records, describe_names, get_text
from jaxgpt.prepare.compression import UNREADABLE, describe, open_file
from jaxgpt.prepare.pages import PageTooLarge, extract_text
from jaxgpt.prepare.parquet_rows import read_parquet
from jaxgpt.prepare.sources import COMPRESSED, CUT_BYTES, TABLES, Unit, open_dataset
from jaxgpt.prepare.tables import read_rows


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
                yield counter.count, get_text(parse_record(line), field)
            except RecordError as error:
                yield counter.count, Broken(error.reason, error.detail)


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
            problem = describe_names(field, names, listed) if names.count(name) != 1 else None
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
        yield counter.count, get_text(record, field)


READERS = {
    "text": _read_text,
    "jsonl": _read_jsonl,
    "csv": _read_table,
    "tsv": _read_table,
    "parquet": read_parquet,
    "warc": _read_warc,
    "hf": _read_hub,
}
