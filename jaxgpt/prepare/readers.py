"""The texts and broken records of every kind of input, each with its line.

datatrove's readers skip a broken line with a message in a log; these report it with its line number.
"""

import csv
import io
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxgpt.data.documents import is_separator, normalize
from jaxgpt.data.records import RecordError, find_name, is_blank, is_unicode, parse_record
from jaxgpt.prepare.compression import UNREADABLE, open_file
from jaxgpt.prepare.pages import extract_text
from jaxgpt.prepare.sources import COMPRESSED, CUT_BYTES, TABLES, Unit, open_dataset

LINE_BYTES = 64 << 20  # longer lines are broken: a line is held in memory


class LineCounter:
    """Counts the lines, or rows, of a unit that were read."""

    count = 0


class Broken(NamedTuple):
    """A record that is no document: the reason, which the report counts, and details about this record."""

    reason: str
    detail: str = ""


Records = Iterator[tuple[int, str | Broken]]  # each with its line in the unit, from 1


def _read_lines(unit: Unit, counter: LineCounter) -> Iterator[bytes | Broken]:
    """The lines that begin in a unit, with their line ends; Broken for too long ones and for corrupt compression."""
    is_compressed = Path(unit.name).suffix.lower() in COMPRESSED
    with open_file(Path(unit.name)) as file:
        position = unit.start
        if position:  # the line in which the unit begins belongs to the unit before
            file.seek(position - 1)
            position -= 1
            while True:
                part = file.readline(1 << 20)
                position += len(part)
                if not part or part.endswith(b"\n"):
                    break
        while is_compressed or position < unit.end:
            try:
                line = file.readline(LINE_BYTES)
                if not line:
                    return
                position += len(line)
                counter.count += 1
                if len(line) == LINE_BYTES and not line.endswith(b"\n"):
                    while line and not line.endswith(b"\n"):
                        line = file.readline(1 << 20)
                        position += len(line)
                    yield Broken("line too long", f"more than {LINE_BYTES:,} bytes")
                    continue
            except UNREADABLE as error:
                counter.count += 1
                yield Broken("corrupt file", f"nothing can be decompressed from here on: {error}")
                return
            yield line


def _read_text(unit: Unit, field: str, counter: LineCounter) -> Records:
    del field
    first, pending, size = 1, [], 0

    def document() -> str | Broken:
        content = b"".join(pending)
        try:
            return normalize(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            return Broken("not UTF-8", f"byte 0x{content[error.start]:02x}, {error.start:,} bytes into the document")

    empty = not unit.start  # whether the whole file has no text
    for line in _read_lines(unit, counter):
        if isinstance(line, Broken):
            empty = False
            yield counter.count, line
        elif not is_separator(line):
            pending.append(line)
            size += len(line)
            empty = empty and not line.strip()
            if size < CUT_BYTES:  # only a compressed file, which could not be cut before, reaches it
                continue
        if any(map(bytes.strip, pending)):
            yield first, document()
        pending, first, size = [], counter.count + 1, 0
    if empty or any(map(bytes.strip, pending)):
        yield first, document()


def _read_jsonl(unit: Unit, field: str, counter: LineCounter) -> Records:
    for line in _read_lines(unit, counter):
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
    return text if is_unicode(text) else Broken("not Unicode", "a lone surrogate, half of a \\u pair")


def _read_table(unit: Unit, field: str, counter: LineCounter) -> Records:
    delimiter = TABLES[f".{unit.kind}"]
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # as records.read_table
    csv.field_size_limit(LINE_BYTES)
    try:
        with open_file(Path(unit.name)) as file:
            # Bytes that are not UTF-8 become surrogates, so that only their row is lost.
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            rows = (row for row in _read_rows(text, counter, delimiter=delimiter, quoting=quoting) if row[1])
            line, names = next(rows, (1, []))
            if isinstance(names, Broken):
                yield line, names
                names = []
            name = find_name(field, names)
            for line, row in rows:
                if isinstance(row, Broken):
                    yield line, row
                elif names.count(name) != 1:
                    yield line, _describe_names(field, names)
                elif len(row) != len(names):
                    yield line, Broken("not CSV", f"{len(row)} fields, and the first line names {len(names)}")
                else:
                    cell = row[names.index(name)]
                    yield line, cell if is_unicode(cell) else Broken("not UTF-8")
    except UNREADABLE as error:
        yield counter.count + 1, Broken("corrupt file", str(error))


def _describe_names(field: str, names: list[str]) -> Broken:
    number = "no" if find_name(field, names) is None else "more than one"
    return Broken("no text", f"{number} field {field!r} among {', '.join(map(repr, names))}"[:200])


def _read_rows(lines: Iterator[str], counter: LineCounter, **dialect: Any) -> Iterator[tuple[int, list[str] | Broken]]:
    """A table's rows, each with the line on which it begins.

    A row that can't be parsed costs its first line only, and the next row begins on the line after it: a quote that is
    never closed would take all that follows into its cell.
    """
    first, taken, to_reread = 1, [], []  # the lines of a row, and those to read once more, the next one last

    def take() -> Iterator[str]:
        while line := to_reread.pop() if to_reread else next(lines, ""):
            taken.append(line)
            counter.count = max(counter.count, first + len(taken) - 1)
            yield line

    while True:
        try:
            for row in csv.reader(take(), strict=True, **dialect):
                yield first, row
                first += len(taken)
                taken.clear()
            return
        except csv.Error as error:
            yield first, Broken("not CSV", str(error))
            to_reread += reversed(taken[1:])
            first += 1
            taken.clear()


def _read_parquet(unit: Unit, field: str, counter: LineCounter) -> Records:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(unit.name) as parquet:
            groups, names = range(unit.start, unit.end), parquet.schema_arrow.names
            name = find_name(field, names)
            if names.count(name) != 1:
                num_rows = sum(parquet.metadata.row_group(group).num_rows for group in groups)
                for _ in range(num_rows):
                    counter.count += 1
                    yield counter.count, _describe_names(field, names)
                return
            for batch in parquet.iter_batches(1024, row_groups=groups, columns=[name]):
                for value in batch.column(0):
                    counter.count += 1
                    yield counter.count, _get_cell(value, field)
    except MemoryError:  # which one of Arrow's is, too
        raise
    except (ArrowException, *UNREADABLE) as error:
        yield counter.count + 1, Broken("corrupt file", " ".join(str(error).split())[:200])


def _get_cell(value: Any, field: str) -> str | Broken:
    try:
        return _get_text({field: value.as_py()}, field)
    except UnicodeDecodeError:
        return Broken("not UTF-8")


def _read_warc(unit: Unit, field: str, counter: LineCounter) -> Records:
    """A crawl's pages: the main text of HTML, by trafilatura; the records of a WET file are text already."""
    from datatrove.pipeline.readers.warc import process_record
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    del field
    try:
        with open_file(Path(unit.name)) as content:
            file = ErrorRecordingFile(content)
            for record in ArchiveIterator(file):
                counter.count += 1
                try:
                    page = process_record(record)
                    # Not datatrove's own step, which drops a page after a second: that depends on the machine's load.
                    html = page and record.rec_type == "response"
                    text = extract_text(page["text"]) if html else None
                except MemoryError:
                    raise
                except Exception as error:  # of a parser, on a page that it was not made for
                    yield counter.count, Broken("unreadable page", type(error).__name__)
                    continue
                if page:
                    yield counter.count, (text if html else page["text"]) or Broken("no main text")
                elif record.rec_type in ("response", "conversion") and _payload_type(record) in PAGES:
                    yield counter.count, Broken("unreadable page", "of no known encoding")
            if file.error:
                raise file.error
    except (ArchiveLoadFailed, *UNREADABLE) as error:
        yield counter.count + 1, Broken("corrupt file", type(error).__name__)


class ErrorRecordingFile:
    """A file that remembers its error, which warcio takes for the end of the file."""

    def __init__(self, file: IO[bytes]):
        self.file, self.error = file, None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except UNREADABLE as error:
            self.error = error
            return b""


PAGES = ("text/html", "application/xhtml+xml", "text/plain")


def _payload_type(record: Any) -> str | None:
    return record.rec_headers.get("WARC-Identified-Payload-Type")


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
