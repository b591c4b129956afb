"""Texts in pages of Parquet that are too large for pyarrow, which holds all of a page, more than once.

By default it writes pages of 1,024 rows, so that a thousand books are one. Here a page is unpacked into a temporary
file and read text by text (https://parquet.apache.org/docs/file-format/data-pages/encodings/).
"""

import contextlib
import tempfile
from array import array
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any

import numpy as np

from jaxgpt.data.records import RECORD_BYTES
from jaxgpt.errors import RetryableError
from jaxgpt.prepare.broken import Broken
from jaxgpt.prepare.parquet import DATA, DATA_2, DICTIONARY, PAGE_BYTES, Page, read_number, read_pages

PLAIN, DICTIONARY_ENCODINGS = 0, (2, 8)  # of a data page's values
STREAMED = {"ZSTD": "zstd", "GZIP": "gzip", "BROTLI": "brotli"}  # pyarrow's names of codecs
READ_BYTES, MAX_VALUES = 1 << 20, 1 << 22
FRAGMENT_BYTES = 1 << 16  # Snappy packs each so many bytes alone
TOO_LONG = Broken("text too long", f"more than {RECORD_BYTES:,} bytes")


def read_texts(path: str | Path, chunk: Any, is_optional: bool) -> Iterator[str | Broken | None]:
    """The texts of a column in a row group, None for a null.

    Args:
      chunk: a pyarrow.parquet.ColumnChunkMetaData.
      is_optional: whether there may be nulls.

    Raises:
      OverflowError: it is packed or encoded in a way that is only for pyarrow.
      RetryableError: there is no room for a temporary file.
      ValueError, pyarrow.ArrowException: it is corrupt.
    """
    with contextlib.ExitStack() as cleanup:
        dictionary = None
        for page in read_pages(path, chunk):
            if page.values > MAX_VALUES:
                raise OverflowError(f"a page of {page.values:,} values, more than {MAX_VALUES:,}")
            if page.kind == DICTIONARY:
                if dictionary:
                    raise ValueError("two dictionaries")
                dictionary = _Dictionary(cleanup.enter_context(_unpack(path, chunk, page)), page.values)
            elif page.kind in (DATA, DATA_2):
                yield from _read_page(path, chunk, page, is_optional, dictionary)


def _read_page(path: str | Path, chunk: Any, page: Page, is_optional: bool, dictionary: Any) -> Iterator[Any]:
    repetitions = definitions = 0
    if page.kind == DATA_2:  # its levels come first, and are not packed
        repetitions, definitions = page.header.get(6, 0), page.header.get(5, 0)
        if not all(type(each) is int and each >= 0 for each in (repetitions, definitions)):
            raise ValueError("a page whose levels have no size")
        if repetitions + definitions > min(page.size, page.packed):
            raise ValueError("a page with more levels than bytes")
    encoding = page.header.get(4 if page.kind == DATA_2 else 2)
    with _unpack(path, chunk, page, repetitions + definitions) as file:
        levels = np.ones(page.values, np.uint32)
        if page.kind == DATA_2 and is_optional:
            levels = _read_runs(_read_part(path, page.at + repetitions, definitions), 1, page.values)
        elif is_optional:
            levels = _read_runs(_read_bytes(file, int.from_bytes(file.read(4), "little")), 1, page.values)
        if encoding == PLAIN:
            texts = (_read_text(file) for _ in range(page.values))
        elif encoding in DICTIONARY_ENCODINGS and dictionary:
            width, runs = file.read(1), _read_bytes(file, None)
            texts = map(dictionary.get, _read_runs(runs, width[0] if width else 0, np.count_nonzero(levels)))
        else:
            raise OverflowError(f"a large page whose encoding is number {encoding}")
        for level in levels:
            yield next(texts) if level else None


class _Dictionary:
    """The texts of a dictionary's page, by their numbers."""

    def __init__(self, file: IO[bytes], count: int):
        self.file, self.starts = file, array("Q")
        for _ in range(count):
            self.starts.append(file.tell())
            file.seek(_read_size(file), 1)

    def get(self, number: int) -> str | Broken:
        if number >= len(self.starts):
            raise ValueError("a text that its dictionary does not have")
        self.file.seek(self.starts[number])
        return _read_text(self.file)


def _read_text(file: IO[bytes]) -> str | Broken:
    size = _read_size(file)
    if size > RECORD_BYTES:
        file.seek(size, 1)
        return TOO_LONG
    content = file.read(size)
    if len(content) < size:
        raise ValueError("a page that ends in a text")
    try:
        return content.decode()
    except UnicodeDecodeError:
        return Broken("not UTF-8")


def _read_size(file: IO[bytes]) -> int:
    head = file.read(4)
    if len(head) < 4:
        raise ValueError("a page with fewer values than it says")
    return int.from_bytes(head, "little")


def _read_bytes(file: IO[bytes], size: int | None) -> bytes:
    content = file.read(min(PAGE_BYTES + 1, PAGE_BYTES + 1 if size is None else size))
    if len(content) > PAGE_BYTES:
        raise OverflowError(f"levels or numbers of more than {PAGE_BYTES:,} bytes")
    return content


def _read_part(path: str | Path, at: int, size: int) -> bytes:
    with open(path, "rb") as file:
        file.seek(at)
        return _read_bytes(file, size)


def _read_runs(data: bytes, width: int, count: int) -> np.ndarray:
    """So many numbers of `width` bits, in runs of one number or of packed bits, uint32."""
    if width > 32:
        raise ValueError("a number of more than 32 bits")
    numbers, seen, at = np.empty(count, np.uint32), 0, 0
    while seen < count:
        try:
            head, at = read_number(data, at, signed=False)
        except (IndexError, TypeError):
            raise ValueError("fewer numbers than a page has values") from None
        if head & 1:
            groups = min(head >> 1, -(-(count - seen) // 8))  # of 8 numbers
            bits = np.unpackbits(np.frombuffer(data, np.uint8, groups * width, at), bitorder="little")
            run = np.zeros(8 * groups, np.uint32)
            for bit, column in enumerate(bits.reshape(8 * groups, width).T):
                run |= column.astype(np.uint32) << np.uint32(bit)
            at += (head >> 1) * width
        else:
            size = -(-width // 8)
            run = np.full(min(head >> 1, count - seen), int.from_bytes(data[at : at + size], "little"), np.uint32)
            at += size
        run = run[: count - seen]
        numbers[seen : seen + len(run)] = run
        seen += len(run)
    return numbers


# ---- Unpacking


@contextlib.contextmanager
def _unpack(path: str | Path, chunk: Any, page: Page, start: int = 0) -> Iterator[IO[bytes]]:
    """A temporary file with a page's bytes from `start` on, which are packed."""
    import pyarrow

    is_packed = page.header.get(7, True) if page.kind == DATA_2 else True
    codec, left = chunk.compression if is_packed else "UNCOMPRESSED", page.size - start
    with pyarrow.OSFile(str(path)) as source, tempfile.TemporaryFile() as file:
        stream = source.get_stream(page.at + start, page.packed - start)
        for part in _unpack_stream(stream, codec):
            left -= len(part)
            if left < 0:
                break
            _write(file, part)
        if left:
            raise ValueError("a page of another size than it says")
        file.seek(0)
        yield file


def _write(file: IO[bytes], part: bytes) -> None:
    try:
        file.write(part)
        file.flush()
    except OSError as error:
        where = tempfile.gettempdir()
        raise RetryableError(f"{where}: {error.strerror}; set TMPDIR to a folder with room for 4 GB") from None


def _unpack_stream(stream: Any, codec: str) -> Iterable[bytes]:
    from pyarrow import CompressedInputStream

    if codec == "SNAPPY":
        yield from _unpack_snappy(stream)
        return
    if codec in STREAMED:
        stream = CompressedInputStream(stream, STREAMED[codec])
    elif codec != "UNCOMPRESSED":
        raise OverflowError(f"a large page packed by {codec}")
    while part := stream.read(READ_BYTES):
        yield part


def _unpack_snappy(stream: Any) -> Iterator[bytes]:
    """Unpack what pyarrow unpacks only as a whole: fragments are packed alone, so a part of them is a whole as well."""
    from pyarrow import Codec

    codec, data, is_last = Codec("snappy"), stream.read(READ_BYTES), False
    _, start = read_number(data + bytes(1), 0, signed=False)  # how much it unpacks to
    data = data[start:]
    while data or not is_last:
        more = stream.read(READ_BYTES)
        data, is_last = data + more, not more
        packed, size = _measure_fragments(data, is_last)
        if packed:
            head = bytes(size >> shift & 127 | 128 * (shift < 28) for shift in range(0, 35, 7))
            yield codec.decompress(head + data[:packed], size, asbytes=True)
            data = data[packed:]
        elif is_last and data:
            raise ValueError("a page that ends in an element of Snappy")
        elif len(data) > 2 * FRAGMENT_BYTES:  # one packed by a sixth more than it has, at most
            raise OverflowError("a large page that Snappy has not packed in fragments")


def _measure_fragments(data: bytes, is_last: bool) -> tuple[int, int]:
    """How many bytes are whole fragments, and to how many they unpack."""
    at = size = 0
    measured, end = (0, 0), len(data)
    while at < end:
        tag = data[at]
        step, length = ELEMENTS[tag]
        if not step:
            extra = (tag >> 2) - 59
            length = int.from_bytes(data[at + 1 : at + 1 + extra], "little") + 1
            step = 1 + extra + length
        at += step
        size += length
        if (not size % FRAGMENT_BYTES and at <= end) or (at == end and is_last):
            measured = at, size
    return measured


def _measure_element(tag: int) -> tuple[int, int]:
    """By its first byte, how many bytes an element has, and to how many it unpacks; 0: the next bytes have that.

    (https://github.com/google/snappy/blob/main/format_description.txt)
    """
    kind, number = tag & 3, tag >> 2
    if kind == 0:
        return (number + 2, number + 1) if number < 60 else (0, 0)
    return [(2, (number & 7) + 4), (3, number + 1), (5, number + 1)][kind - 1]


ELEMENTS = [*map(_measure_element, range(256))]
