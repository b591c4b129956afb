import gzip
import io
import zlib

import pytest

from jaxgpt.prepare import warc
from tests.support.bombs import GOOD_PAGE, answer, chunk, record


def contents(content):
    records = warc.read_records(io.BufferedReader(io.BytesIO(content)))
    return ["too long" if too_long else record.content_stream().read() for record, too_long in records]


def test_payloads_are_unpacked(monkeypatch):
    body, gzipped = b"<p>words</p>" * 100, "Content-Encoding: gzip\r\n"
    in_chunks = "Transfer-Encoding: chunked\r\n"
    records = [
        answer(body),
        answer(gzip.compress(body), gzipped),
        answer(chunk(body), in_chunks),
        answer(chunk(gzip.compress(body)), gzipped + in_chunks),
        answer(chunk(zlib.compress(body)), in_chunks + "Content-Encoding: deflate\r\n"),
    ]
    assert contents(b"".join(records)) == contents(gzip.compress(b"".join(records))) == [body] * 5
    monkeypatch.setattr(warc, "RECORD_BYTES", 1000)
    assert contents(b"".join([*records, GOOD_PAGE])) == ["too long"] * 5 + [b"a good record"]


def test_a_header_too_long(monkeypatch):
    """One of HTTP costs its record; after one of WARC nobody knows where the next record begins."""
    monkeypatch.setattr(warc, "HEADER_BYTES", 40_000)
    assert contents(answer(b"", f"A: {'a' * 50_000}\r\n") + GOOD_PAGE) == ["too long", b"a good record"]
    with pytest.raises(ValueError, match="header of more than 40,000 bytes"):
        contents(record("conversion", b"", "text/plain", extra=b"A: " + b"a" * 50_000 + b"\r\n") + GOOD_PAGE)
