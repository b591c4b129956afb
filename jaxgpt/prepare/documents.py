"""Documents, each of which knows its place, from every kind of input; what can't be read is told, not lost.

The readers of datatrove pass over a broken line with a message in a log; these name it, and its line, in the report.
"""

import csv
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

import orjson
import zstandard
from datatrove.data import Document
from datatrove.pipeline.base import PipelineStep

from jaxgpt.prepare.drop_log import Journal, write_json
from jaxgpt.prepare.sources import CUT_BYTES, PACKED, TABLES, Unit, dataset

SEPARATOR = "<|endoftext|>"  # on a line of its own it parts the documents of a text file
LINE_BYTES = 64 << 20  # no line is longer: it would have to be held in memory
DOCUMENT_CHARS = 1_000_000  # filters hold the words of a document, and their n-grams, all at once


class Broken(NamedTuple):
    """A record that is no document: why, in a few words that are counted, and more about this one."""

    reason: str
    detail: str = ""


class Read(PipelineStep):
    """The first step of the pipeline: the documents of a piece, in the input's order.

    A document's metadata says where it was: `file`, `unit` (which of the piece) and `line`, from 1 within the unit.
    A text longer than DOCUMENT_CHARS is cut at a line end into several documents.
    """

    type, name = "READER", "read"

    def __init__(self, field: str, work: Path):
        super().__init__()
        self.field, self.work, self.journal = field, work, Journal(work, self.name)

    def run(self, data: Any = None, rank: int = 0, world_size: int = 1) -> Iterator[Document]:
        records = size = 0
        lines = []
        with self.journal:
            for number, unit in enumerate(read_piece(self.work, rank)):
                counter = Lines()
                for line, found in READERS[unit.kind](unit, self.field, counter):
                    place = {"file": unit.name, "unit": number, "line": line}
                    if isinstance(found, str) and not found.strip():
                        found = Broken("empty")
                    if isinstance(found, Broken):
                        records += 1
                        self.journal.line(rank, place, *found)
                        continue
                    for text in parts(found):
                        records, size = records + 1, size + len(text)
                        yield Document(text, "", metadata=dict(place))
                        place["line"] += text.count("\n") if unit.kind == "text" else 0
                lines.append(counter.count)
        write_json(self.work / "read" / f"{rank:05d}.json", {"records": records, "chars": size, "lines": lines})


def write_pieces(pieces: list[list[Unit]], work: Path) -> None:
    """A file for each task: a step that held all of a million files would be sent to every worker with every task."""
    for rank, piece in enumerate(pieces):
        write_json(work / "pieces" / f"{rank:05d}.json", piece)


def read_piece(work: Path, rank: int) -> list[Unit]:
    return [Unit(*unit) for unit in orjson.loads((work / "pieces" / f"{rank:05d}.json").read_bytes())]


class Lines:
    """How many lines, or rows, of a unit were read."""

    count = 0


# What the libraries raise at a damaged file.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zstandard.ZstdError, csv.Error)
Found = Iterator[tuple[int, str | Broken]]  # each with its line within the unit, from 1


def parts(text: str, chars: int = DOCUMENT_CHARS) -> Iterator[str]:
    """A text in parts of at most so many characters, cut behind a line end, else behind a blank, else anywhere."""
    start = 0
    while len(text) - start > chars:
        cut = max(text.rfind("\n", start, start + chars), 0) or text.rfind(" ", start, start + chars)
        end = cut + 1 if cut > start else start + chars
        yield text[start:end]
        start = end
    yield text[start:]


def _open(unit: Unit) -> IO[bytes]:
    path = Path(unit.name)
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(Zstandard(path.open("rb")))
    return path.open("rb")


class Zstandard(io.RawIOBase):
    """What a .zst file holds. The library's own reader takes one that was cut off for one that has ended."""

    def __init__(self, file: IO[bytes]):
        self.file, self.frame, self.packed, self.ready = file, None, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            packed, self.packed = self.packed or self.file.read(1 << 16), b""
            if not packed and self.frame:
                raise EOFError("it ends within a frame")
            if not packed:
                return 0
            self.frame = self.frame or zstandard.ZstdDecompressor().decompressobj()
            self.ready = self.frame.decompress(packed)
            if self.frame.eof:
                self.packed, self.frame = self.frame.unused_data, None
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _lines(unit: Unit, counter: Lines) -> Iterator[bytes | Broken]:
    """The lines that begin in a unit, each with its end; Broken for one that is too long, or what can't be unpacked."""
    packed = Path(unit.name).suffix.lower() in PACKED
    with _open(unit) as file:
        position = unit.start
        if position:  # the line in which the unit begins is the one's before
            file.seek(position - 1)
            position -= 1
            while True:
                rest = file.readline(1 << 20)
                position += len(rest)
                if not rest or rest.endswith(b"\n"):
                    break
        while packed or position < unit.end:
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
                yield Broken("damaged file", f"nothing can be unpacked from here on: {error}")
                return
            yield line


def _text(unit: Unit, field: str, counter: Lines) -> Found:
    del field
    first, held, size = 1, [], 0

    def document() -> str | Broken:
        content = b"".join(held)
        try:
            return content.decode("utf-8").removeprefix("\ufeff")
        except UnicodeDecodeError as error:
            return Broken("not UTF-8", f"byte 0x{content[error.start]:02x}, {error.start:,} bytes into the document")

    separator, empty = SEPARATOR.encode(), not unit.start  # whether the whole file has no text
    for line in _lines(unit, counter):
        if isinstance(line, Broken):
            empty = False
            yield counter.count, line
        elif line.strip() != separator:
            held.append(line)
            size += len(line)
            empty = empty and not line.strip()
            if size < CUT_BYTES:  # which only a packed file, that could not be cut before, can reach
                continue
        if any(map(bytes.strip, held)):
            yield first, document()
        held, first, size = [], counter.count + 1, 0
    if empty or any(map(bytes.strip, held)):
        yield first, document()


def _jsonl(unit: Unit, field: str, counter: Lines) -> Found:
    for line in _lines(unit, counter):
        if isinstance(line, Broken):
            yield counter.count, line
        elif line := line.removeprefix(b"\xef\xbb\xbf").strip():
            yield counter.count, _record(line, field)


def _record(line: bytes, field: str) -> str | Broken:
    try:
        record = orjson.loads(line)
    except ValueError as error:
        try:
            line.decode("utf-8")
        except UnicodeDecodeError as error:
            return Broken("not UTF-8", f"byte 0x{line[error.start]:02x}, {error.start:,} bytes into the line")
        return Broken("not JSON", str(error))
    if not isinstance(record, dict):
        return Broken("not a JSON object", f"a {type(record).__name__}")
    return _field(record, field)


def _field(record: dict[str, Any], field: str) -> str | Broken:
    if field not in record:
        return Broken("no text", f"{len(record)} fields, and none is {field!r}")
    text = record[field]  # of which a report shows nothing: it may be private
    return text if isinstance(text, str) else Broken("not a text", f"{field!r} is a {type(text).__name__}")


def _table(unit: Unit, field: str, counter: Lines) -> Found:
    delimiter = TABLES[f".{unit.kind}"]
    quoting = csv.QUOTE_NONE if delimiter == "\t" else csv.QUOTE_MINIMAL  # as records.read_table
    csv.field_size_limit(LINE_BYTES)
    try:
        with _open(unit) as file:
            # What is not UTF-8 is kept as surrogates, so that only its own row is lost.
            text = io.TextIOWrapper(file, "utf-8-sig", errors="surrogateescape", newline="")
            rows = csv.reader(text, delimiter=delimiter, quoting=quoting, strict=True)
            names, counter.count = next(rows, []), rows.line_num
            if field not in names:
                yield 1, Broken("no text", f"no field {field!r} among {', '.join(map(repr, names))}"[:200])
                return
            while True:
                first = rows.line_num + 1
                try:
                    row = next(rows)
                except csv.Error as error:
                    yield first, Broken("not CSV", str(error))
                    continue
                finally:
                    counter.count = rows.line_num
                if not row:
                    continue
                if len(row) != len(names):
                    yield first, Broken("not CSV", f"{len(row)} fields, and the first line names {len(names)}")
                elif re.search("[\ud800-\udfff]", cell := row[names.index(field)]):
                    yield first, Broken("not UTF-8")
                else:
                    yield first, cell
    except StopIteration:
        return
    except UNREADABLE as error:
        yield counter.count + 1, Broken("damaged file", str(error))


def _parquet(unit: Unit, field: str, counter: Lines) -> Found:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(unit.name) as parquet:
            if field not in parquet.schema_arrow.names:
                yield 1, Broken("no text", f"no column {field!r} among {', '.join(parquet.schema_arrow.names)}"[:200])
                return
            for batch in parquet.iter_batches(1024, row_groups=range(unit.start, unit.end), columns=[field]):
                for text in batch.column(0).to_pylist():
                    counter.count += 1
                    yield counter.count, _field({field: text}, field)
    except (ArrowException, *UNREADABLE) as error:
        yield counter.count + 1, Broken("damaged file", " ".join(str(error).split())[:200])


def _warc(unit: Unit, field: str, counter: Lines) -> Found:
    """The pages of a crawl: of HTML its main text, by trafilatura; the records of a WET file are text already."""
    import trafilatura
    from datatrove.pipeline.readers.warc import process_record
    from warcio.archiveiterator import ArchiveIterator
    from warcio.exceptions import ArchiveLoadFailed

    del field
    try:
        with _open(unit) as packed:
            file = Telling(packed)
            for record in ArchiveIterator(file):
                counter.count += 1
                try:
                    page = process_record(record)
                    # datatrove's own step gives a page a second, and what is slow today is not tomorrow.
                    html = page and record.rec_type == "response"
                    text = (
                        trafilatura.extract(page["text"], favor_precision=True, include_comments=False)
                        if html
                        else None
                    )
                except Exception as error:  # of a parser, at a page that it was not made for
                    yield counter.count, Broken("unreadable page", type(error).__name__)
                    continue
                if page:
                    yield counter.count, (text if html else page["text"]) or Broken("no main text")
                elif record.rec_type in ("response", "conversion") and _payload(record) in PAGES:
                    yield counter.count, Broken("unreadable page", "of no known encoding")
            if file.error:
                raise file.error
    except (ArchiveLoadFailed, *UNREADABLE) as error:
        yield counter.count + 1, Broken("damaged file", type(error).__name__)


class Telling:
    """A file that remembers what went wrong: warcio takes an error for the end."""

    def __init__(self, file: IO[bytes]):
        self.file, self.error = file, None

    def read(self, size: int = -1) -> bytes:
        try:
            return self.file.read(size)
        except UNREADABLE as error:
            self.error = error
            return b""


PAGES = ("text/html", "application/xhtml+xml", "text/plain")


def _payload(record: Any) -> str | None:
    return record.rec_headers.get("WARC-Identified-Payload-Type")


def _hub(unit: Unit, field: str, counter: Lines) -> Found:
    for record in dataset(unit.name).shard(unit.end, unit.start):
        counter.count += 1
        yield counter.count, _field(record, field)


READERS = {
    "text": _text,
    "jsonl": _jsonl,
    "csv": _table,
    "tsv": _table,
    "parquet": _parquet,
    "warc": _warc,
    "hf": _hub,
}
