"""The records of a crawl (WARC, ISO 28500), by warcio, without holding an oversized one in memory."""

import gzip
import io
import math
from collections.abc import Iterator
from typing import IO, Any

from jaxgpt.data.records import RECORD_BYTES
from jaxgpt.prepare.compression import UNREADABLE

PAGES = ("text/html", "application/xhtml+xml", "text/plain")
KINDS = ("response", "conversion")  # of records with pages: of a crawl, of a WET file
HEADER_BYTES = 1 << 20


def read_records(content: IO[bytes]) -> Iterator[tuple[Any, bool]]:
    """Records, and whether each is too long. A page's `content_stream()` has its content, unpacked.

    Raises:
      UNREADABLE, warcio.exceptions.ArchiveLoadFailed: the rest of the file is corrupt.
    """
    from warcio.archiveiterator import ArchiveIterator
    from warcio.bufferedreaders import BufferedReader

    if content.peek(2)[:2] == b"\x1f\x8b":  # packed, whatever it is called
        content = gzip.GzipFile(fileobj=content, mode="rb")
    file = BoundedFile(content)
    iterator = ArchiveIterator(file, no_record_parse=True)
    iterator.reader = BufferedReader(iterator.fh)  # its own unpacks, without a bound
    while True:
        file.left = HEADER_BYTES  # its lines, which warcio reads whole
        record = next(iterator, None)
        file.left = math.inf
        if file.error:
            raise file.error
        if record is None:
            return
        rest, too_long = record.raw_stream, False
        if record.rec_type in KINDS and payload_type(record) in (None, *PAGES):
            too_long = _read_payload(record, iterator.loader)
        yield record, too_long
        record.raw_stream = rest
        while rest.read(1 << 16):
            pass


def _read_payload(record: Any, loader: Any) -> bool:
    from warcio.bufferedreaders import ChunkedDataReader
    from warcio.limitreader import LimitReader

    header = LimitReader(record.raw_stream, HEADER_BYTES)
    uri = record.rec_headers.get_header("WARC-Target-URI") or record.rec_headers.get_header("uri") or ""
    headers = record.http_headers = loader.load_http_headers(record.rec_type, uri, header, record.length)
    if not header.limit:
        return True
    record.raw_stream = limited = LimitReader(record.raw_stream, RECORD_BYTES + 1)
    if headers and headers.get_header("transfer-encoding") == "chunked":
        headers.remove_header("transfer-encoding")  # with it, warcio unpacks a whole chunk at once
        record.raw_stream = ChunkedDataReader(limited)
    if headers and (headers.get_header("content-encoding") or "").lower() == "br":
        headers.remove_header("content-encoding")  # unpacked without a bound
    payload = record.content_stream().read(RECORD_BYTES + 1)
    record.raw_stream, record.http_headers = io.BytesIO(payload), None
    return len(payload) > RECORD_BYTES or not limited.limit


class BoundedFile:
    """A file of which `left` bytes may be read. It remembers its error, which warcio takes for the end of the file."""

    def __init__(self, file: IO[bytes]):
        self.file, self.left, self.error = file, math.inf, None

    def read(self, size: int = -1) -> bytes:
        try:
            content = self.file.read(size)
            self.left -= len(content)
            if self.left < 0:
                raise ValueError(f"a header of more than {HEADER_BYTES:,} bytes")
        except UNREADABLE as error:
            self.error = error
            return b""
        return content


def payload_type(record: Any) -> str | None:
    return record.rec_headers.get("WARC-Identified-Payload-Type")
