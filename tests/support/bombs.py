"""Small files that unpack to much: what a worker of `prepare` says of each, its memory and its time.

python -m tests.support.bombs --megabytes 1000
python -m tests.support.bombs --megabytes 1000 --prepare --workers 2

Each is made to take the most of one reader. After it, where the container has a next record, stands a good one, whose
text is GOOD. The process that reads them has loaded what a worker may load; see `measure`. With --prepare each passes
the whole command, with all steps and the flags that are named, and the peak is the largest process's.
"""

import argparse
import collections
import functools
import gzip
import io
import json
import operator
import random
import re
import struct
import subprocess
import sys
import tempfile
import time
import zlib
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import zstandard

from jaxgpt.prepare import readers, sources

ROOT = Path(__file__).parents[2]
GOOD = "a good record"
LIMIT_MB = 512  # of a worker
MB = 1_000_000


def compress(parts: Iterable[bytes], suffix: str) -> bytes:
    """Parts, joined and compressed, which are never all in memory."""
    file = io.BytesIO()
    with (
        gzip.GzipFile(fileobj=file, mode="wb", compresslevel=6)
        if suffix == ".gz"
        else zstandard.ZstdCompressor(3).stream_writer(file, closefd=False)
    ) as writer:
        for part in parts:
            writer.write(part)
    return file.getvalue()


def repeat(unit: bytes, size: int) -> Iterator[bytes]:
    block = unit * (MB // len(unit))
    return (block for _ in range(max(size // MB, 1)))


def line(unit: bytes, size: int, start: bytes = b"", end: bytes = b"\n") -> Iterator[bytes]:
    yield start
    yield from repeat(unit, size)
    yield end


# ---- Lines and tables

GOOD_JSON, GOOD_ROW = json.dumps({"text": GOOD}).encode() + b"\n", b"1," + GOOD.encode() + b"\n"

NOTE = "\U0001d160".encode()  # of which NFC makes three characters
ESCAPED_TEXT = b'{"text": "' + rb"\u0434" * ((8 << 20) - 99) + b'"}\n'


def in_json(unit: bytes, megabytes: float) -> bytes:
    """A line that may just be read."""
    return b'{"x": [' + unit * int(megabytes * MB / len(unit)) + b'0], "text": "a"}\n'


def keys(count: int) -> bytes:
    return b'{"text": "a"' + b"".join(b',"%x":[]' % number for number in range(count)) + b"}\n"


def lines(size: int) -> dict[str, Callable[[], bytes]]:
    def table(*parts: Iterable[bytes]) -> Iterator[bytes]:
        yield b"id,text\n"
        for part in parts:
            yield from part
        yield GOOD_ROW

    return {
        "line.txt.gz": lambda: compress(line(b"\0", size), ".gz"),
        "line.txt.zst": lambda: compress(line(b"\0", size), ".zst"),
        "lines.txt.gz": lambda: compress(repeat(b"a\n", size // 20), ".gz"),
        "line.jsonl.gz": lambda: compress([*line(b" ", size), GOOD_JSON], ".gz"),
        "line.jsonl.zst": lambda: compress([*line(b" ", size), GOOD_JSON], ".zst"),
        "lists.jsonl.zst": lambda: compress([in_json(b"[[]],", 8.3), in_json(b"[[]],", 1.3), GOOD_JSON], ".zst"),
        "objects.jsonl.gz": lambda: compress([in_json(b'{"":{}},', 8.3), in_json(b'{"":{}},', 2), GOOD_JSON], ".gz"),
        "strings.jsonl.gz": lambda: compress([in_json(b'"ab",', 8.3), GOOD_JSON], ".gz"),
        "keys.jsonl.gz": lambda: compress([keys(500_000), GOOD_JSON], ".gz"),
        "escapes.jsonl.gz": lambda: compress([in_json(rb'{"":"\u1234"},', 7), GOOD_JSON], ".gz"),
        "notes.jsonl.gz": lambda: compress([b'{"text": "' + NOTE * MB + b'"}\n', GOOD_JSON], ".gz"),
        "hangul.jsonl.gz": lambda: compress([b'{"text": "' + "\ud55c".encode() * 2 * MB + b'"}\n', GOOD_JSON], ".gz"),
        "escaped-text.jsonl.gz": lambda: compress([ESCAPED_TEXT, GOOD_JSON], ".gz"),
        "line.csv.gz": lambda: compress(table(line(b"a", size)), ".gz"),
        "line.tsv.zst": lambda: compress([b"text\n", *line(b"a", size), GOOD.encode()], ".zst"),
        "cell.csv.gz": lambda: compress(table(line(b"a\n", size // 40, b'1,"', b'"\n')), ".gz"),
        "empty-lines.csv.gz": lambda: compress(table(line(b"\n", size // 40, b'1,"', b'"\n')), ".gz"),
        "fields.csv.gz": lambda: compress(table(line("€,".encode(), 8 * MB)), ".gz"),
        "fields.tsv.gz": lambda: compress([b"text\n", *line("€\t".encode(), 8 * MB), GOOD.encode()], ".gz"),
        "names.csv.gz": lambda: compress([*line(b"a,", 2 * MB), *repeat(b"1\n", size // 50)], ".gz"),
        "quotes.csv": lambda: b"".join(table(repeat(b'a","b\n', size // 50))),
        "empty-frames.jsonl.zst": lambda: zstandard.compress(b"") * (size // 1000) + zstandard.compress(GOOD_JSON),
        "window.jsonl.zst": lambda: _window(min(size, 200 * MB), 27) + zstandard.compress(GOOD_JSON),
        "window-31.jsonl.zst": lambda: _window(MB, 31),
        "members.jsonl.gz": lambda: gzip.compress(b"") * (size // 10_000) + gzip.compress(GOOD_JSON),
    }


def _window(size: int, log: int) -> bytes:
    """A frame that needs 2^log bytes to be unpacked."""
    settings = zstandard.ZstdCompressionParameters(window_log=log, compression_level=1)
    compressor = zstandard.ZstdCompressor(compression_params=settings).compressobj()
    rows = b"".join(b'{"text": "%d%s"}\n' % (number, b"a" * 980) for number in range(1000))
    return b"".join(compressor.compress(rows) for _ in range(size // MB)) + compressor.flush()


# ---- Parquet


def parquet(column: pa.Array, **settings: object) -> bytes:
    file = io.BytesIO()
    pa.parquet.write_table(pa.table({"text": column}), file, compression="zstd", **settings)
    return file.getvalue()


def dictionary(chars: int, rows: int) -> bytes:
    indices = pa.array([0] * rows + [1], pa.int32())
    return parquet(pa.DictionaryArray.from_arrays(indices, ["a" * chars, GOOD]), store_schema=False)


def footer(size: int) -> bytes:
    """A file whose metadata says that a row group has that many columns, of no bytes each."""
    columns = b"\x19\xfc" + varint(size // 3) + b"\x26\x00\x00" * (size // 3)
    metadata = b"\x15\x02\x19\x1c\x48\x01a\x15\x00\x00\x16\x00\x19\x1c" + columns + b"\x16\x00\x16\x00\x00\x00"
    return b"PAR1" + metadata + struct.pack("<I", len(metadata)) + b"PAR1"


def varint(value: int) -> bytes:
    content = b""
    while value > 127:
        content, value = content + bytes([value & 127 | 128]), value >> 7
    return content + bytes([value])


def lying_page(size: int) -> bytes:
    """One page of a few bytes which says that it has that many."""
    content = parquet(pa.array(["a"]), use_dictionary=False)
    start = content.index(b"\x15\x00\x15")  # a data page's header: its kind, and its size
    _, end = re.compile(b"\x15\x00\x15[\x80-\xff]*[\x00-\x7f]").search(content, start).span()
    return content[: start + 3] + varint(2 * size) + content[end:]


def parquets(size: int) -> dict[str, Callable[[], bytes]]:
    return {
        "dictionary.parquet": lambda: dictionary(MB, 10 * size // MB),
        "large-dictionary.parquet": lambda: dictionary(66 * MB, 20),
        "page.parquet": lambda: parquet(pa.array(["a" * size, GOOD]), use_dictionary=False, row_group_size=1),
        "text.parquet": lambda: parquet(pa.array([random.Random(0).randbytes(33 * MB).hex(), GOOD])),
        "texts.parquet": lambda: parquet(pa.array(["a" * 8 * MB] * 8 + [GOOD]), use_dictionary=False),
        "prefixes.parquet": lambda: parquet(
            pa.array(["a" * MB] * (size // MB) + [GOOD]), use_dictionary=False, column_encoding="DELTA_BYTE_ARRAY"
        ),
        "empties.parquet": lambda: parquet(pa.array([""] * (size // 400) + [GOOD])),
        "lists.parquet": lambda: parquet(pa.array([[""] * (size // 100), [GOOD]])),
        "lying-page.parquet": lambda: lying_page(2**30),
        "books.parquet": lambda: parquet(pa.array(["a" * MB] * (size // MB) + [GOOD])),
        "codes.parquet": lambda: parquet(
            pa.array([f"{i}" for i in range(2 * MB)] + [GOOD]), dictionary_pagesize_limit=size
        ),
        "columns.parquet": lambda: footer(440_000),  # which is not examined
        "metadata.parquet": lambda: footer(8 * MB),
        "large-metadata.parquet": lambda: footer(9 * MB),
    }


# ---- Crawls


def record(kind: str, body: bytes, content: str, length: int | None = None, extra: bytes = b"") -> bytes:
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Target-URI: http://a/\r\n"
    head += f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Identified-Payload-Type: {content}\r\n"
    length = len(body) if length is None else length
    return f"{head}Content-Length: {length}\r\n".encode() + extra + b"\r\n" + body + b"\r\n\r\n"


GOOD_PAGE = record("conversion", GOOD.encode(), "text/plain")


def answer(body: bytes, headers: str = "") -> bytes:
    return record(
        "response", f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n{headers}\r\n".encode() + body, "text/html"
    )


def page(unit: bytes, size: float, start: bytes = b"") -> bytes:
    return answer(b"<html><body>" + start + unit * int(size / len(unit)))


def chunk(content: bytes) -> bytes:
    return b"%x\r\n" % len(content) + content + b"\r\n0\r\n\r\n"


def crawls(size: int) -> dict[str, Callable[[], bytes]]:
    def crawl(*records: bytes) -> bytes:
        return compress([*records, GOOD_PAGE], ".gz")

    zeros = b"".join(repeat(b"\0", size))
    return {
        "page.warc.gz": lambda: crawl(record("conversion", zeros, "text/plain")),
        "page.warc.zst": lambda: compress([record("response", zeros, "text/html"), GOOD_PAGE], ".zst"),
        "header.warc.gz": lambda: crawl(record("conversion", b"a", "text/plain", extra=b"A: " + zeros + b"\r\n")),
        "headers.warc.gz": lambda: crawl(
            record("conversion", b"a", "text/plain", extra=b"a:\n" * (8 * MB // 3 - 1000))
        ),
        "http-header.warc.gz": lambda: crawl(answer(b"a", "A: " + "a" * size + "\r\n")),
        "gzip.warc.gz": lambda: crawl(answer(gzip.compress(zeros), "Content-Encoding: gzip\r\n")),
        "chunk.warc.gz": lambda: crawl(answer(chunk(zeros), "Transfer-Encoding: chunked\r\n")),
        "gzip-chunk.warc.gz": lambda: crawl(
            answer(chunk(zlib.compress(zeros)), "Transfer-Encoding: chunked\r\nContent-Encoding: deflate\r\n")
        ),
        "twice.warc.gz": lambda: compress(
            [gzip.compress(record("conversion", zeros, "text/plain") + GOOD_PAGE)], ".gz"
        ),
        "length.warc.gz": lambda: compress([record("conversion", zeros, "text/plain", 2**62)], ".gz"),
        "tags.warc.gz": lambda: crawl(page(b"<p>a", 8 * MB)),
        "some-tags.warc.gz": lambda: crawl(page(b"<p>a", 3 * MB / 10)),
        "attributes.warc.gz": lambda: crawl(
            answer(b"<p " + b" ".join(b"a%x" % number for number in range(MB)) + b">" + b"a" * 80)
        ),
        "text.warc.gz": lambda: crawl(page(b"word ", 5.4 * MB, b"<p>")),
        "spaces.warc.gz": lambda: crawl(page(b" ", 7.9 * MB, b"<p>")),
        "lines.warc.gz": lambda: crawl(page(b"\n", 7.9 * MB, b"<pre>")),
        "emoji.warc.gz": lambda: crawl(page("😀 ".encode(), 5.4 * MB, b"<p>")),
        "notes.warc.gz": lambda: crawl(page(NOTE, 5.4 * MB, b"<p>")),
        "marks.warc.gz": lambda: crawl(page("\u0301\u0323".encode(), 5.4 * MB, b"<p>a")),
        "bytes.warc.gz": lambda: crawl(page(b"\xe4\xf6 ", 7.9 * MB, b"<p>")),
        "pages.warc.gz": lambda: crawl(*(page(b"%d " % number, 5.4 * MB, b"<p>") for number in range(size // MB // 5))),
        "untyped.warc.gz": lambda: crawl(
            page(b"word ", 5.4 * MB, b"<p>").replace(b"WARC-Identified-Payload-Type: text/html\r\n", b"")
        ),
    }


# ---- How


def make(size: int) -> dict[str, Callable[[], bytes]]:
    return lines(size) | parquets(size) | crawls(size)


def read(path: Path) -> dict[str, int]:
    """How many records were broken, by their reasons; the number of texts, and of good ones among them."""
    counts = collections.Counter()
    for unit in [unit for piece in sources.plan_pieces([str(path)]) for unit in piece]:
        for _, text in readers.READERS[unit.kind](unit, "text", readers.LineCounter()):
            is_text = isinstance(text, str)
            counts["text" if is_text else text.reason] += 1
            counts["good"] += is_text and text.strip() == GOOD
    return counts


def measure(path: Path) -> tuple[dict[str, int], int, float]:
    """The counts of a file's records; the peak memory of this process meanwhile, with all it had, in MB; seconds."""
    Path("/proc/self/clear_refs").write_text("5")
    start = time.perf_counter()
    counts = read(path)
    seconds = time.perf_counter() - start
    peak_kb = re.search(r"VmHWM:\s+(\d+)", Path("/proc/self/status").read_text())
    return counts, int(peak_kb[1]) * 1024 // MB, seconds


def load() -> None:
    """What a worker may have loaded before."""
    import cchardet  # noqa: F401
    import magic  # noqa: F401
    import trafilatura  # noqa: F401
    import warcio  # noqa: F401

    from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
    from jaxgpt.prepare import documents, pipeline  # noqa: F401

    GPT2_TOKENIZER.encode("words")
    documents.limit_malloc_caching()


def run(*paths: Path, timeout: float = 600) -> dict[str, tuple[dict[str, int], int, float]]:
    """`measure` of each file, all in one other process."""
    command = [sys.executable, "-m", "tests.support.bombs", "--files", *map(str, paths)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=timeout)
    assert result.returncode == 0, result.stderr[-1000:]
    return {name: measured for name, *measured in map(json.loads, result.stdout.splitlines())}


STEPS = "--clean unicode controls boilerplate c4 gopher-repetition gopher-quality fineweb --language en --pii replace"


def prepare(path: Path, flags: list[str], timeout: float = 600) -> tuple[dict[str, int], int, float]:
    """As `measure`, of `jaxgpt prepare`; the counts are the report's, or the exit code alone."""
    with tempfile.TemporaryDirectory() as out:
        (Path(out) / "exam.txt").write_text("one two three four five six seven eight nine ten eleven twelve thirteen")
        command = [sys.executable, "-m", "jaxgpt", "prepare", path, "--out", f"{out}/x", "--dedup", "minhash"]
        command += ["--decontaminate", f"{out}/exam.txt", *STEPS.split(), *flags]
        start, peaks = time.perf_counter(), {}
        process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        while process.poll() is None and time.perf_counter() < start + timeout:
            peaks |= _peaks(process.pid)
            time.sleep(0.01)
        process.kill()
        seconds, error = time.perf_counter() - start, process.communicate()[1]
        assert process.returncode in (0, 3), (max(peaks.values()), error[-1000:])  # 3: no document is left
        report = Path(out, "x", "report.json")
        counts = json.loads(report.read_text()) if process.returncode == 0 else {"exit code": process.returncode}
    return {name: count for name, count in counts.items() if type(count) is int}, max(peaks.values()), seconds


def _peaks(process: int) -> dict[int, int]:
    """The peak memory of a process and of all below it, in MB."""
    try:
        children = Path(f"/proc/{process}/task/{process}/children").read_text().split()
        peak_kb = re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{process}/status").read_text())
    except OSError:  # it has ended
        return {}
    peaks = {process: int(peak_kb[1]) * 1024 // MB} if peak_kb else {}
    return functools.reduce(operator.or_, map(_peaks, map(int, children)), peaks)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--megabytes", type=int, default=1000, help="that each unpacks to, about")
    parser.add_argument("--only", nargs="*", help="names of bombs")
    parser.add_argument("--files", nargs="*", type=Path, help="read these instead, in this process")
    parser.add_argument("--prepare", nargs=argparse.REMAINDER, help="pass each through prepare, with these flags")
    options = parser.parse_args()
    if options.files:
        load()
        for path in options.files:
            print(json.dumps([path.name, *measure(path)]), flush=True)
        return
    print(f"{'file':24} {'bytes':>10} {'peak MB':>8} {'s':>6}  records")
    with tempfile.TemporaryDirectory() as folder:
        for name, content in make(options.megabytes * MB).items():
            if options.only and name not in options.only:
                continue
            path = Path(folder) / name
            path.write_bytes(content())
            try:
                measured = run(path)[name] if options.prepare is None else prepare(path, options.prepare)
                counts, peak_mb, seconds = measured
                listed = ", ".join(f"{count:,} {reason}" for reason, count in counts.items())
                print(f"{name:24} {path.stat().st_size:10,} {peak_mb:8} {seconds:6.1f}  {listed}", flush=True)
            except (AssertionError, subprocess.TimeoutExpired) as error:
                print(f"{name:24} {path.stat().st_size:10,} {str(error)[-300:]}", flush=True)
            path.unlink()


if __name__ == "__main__":
    main()
