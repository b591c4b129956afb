"""Pages that are too large for pyarrow, against what pyarrow itself reads; here, 4 kB are too large."""

import random
import tempfile

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest

from jaxgpt.errors import RetryableError
from jaxgpt.prepare import large_pages, parquet
from jaxgpt.prepare.broken import Broken
from tests.prepare.test_parquet import read

DRAW = random.Random(0)
TEXTS = [" ".join(DRAW.choices(["one", "two", "é", "😀"], k=DRAW.randrange(9000))) for _ in range(12)]
TEXTS += ["", *DRAW.choices(TEXTS, k=5), DRAW.randbytes(100_000).hex()]
NULL = Broken("not a text", "'text' is a NoneType")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setattr(parquet, "PAGE_BYTES", 4000)
    monkeypatch.setattr(large_pages, "READ_BYTES", 30_000)
    return tmp_path / "a.parquet"


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "ZSTD", "GZIP", "BROTLI"])
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_texts_are_those_that_were_written(path, monkeypatch, codec, version):
    monkeypatch.setattr(pa.parquet.ParquetFile, "iter_batches", None)  # pyarrow reads none of them
    required = pa.schema([pa.field("text", pa.large_string(), nullable=False)])
    settings = {"compression": codec, "data_page_version": version, "write_batch_size": 10}
    for more in ({}, {"use_dictionary": False}, {"dictionary_pagesize_limit": 10**6}):
        column = [None, *TEXTS, None, None]
        pa.parquet.write_table(pa.table({"id": range(len(column)), "text": column}), path, **settings, **more)
        assert [None if each == NULL else each for each in read(path)] == column
    pa.parquet.write_table(pa.table({"text": TEXTS}, required), path, **settings)
    assert read(path) == TEXTS


def test_a_text_too_long_and_one_that_is_not_utf8_are_broken(path, monkeypatch):
    monkeypatch.setattr(large_pages, "RECORD_BYTES", 4000)
    for settings in ({}, {"use_dictionary": False}):
        column = pa.array([b"a" * 4000, b"\xff", b"b" * 4001, b"c"]).view(pa.string())
        pa.parquet.write_table(pa.table({"text": column}), path, **settings)
        assert [each if isinstance(each, str) else each.reason for each in read(path)] == [
            *("a" * 4000, "not UTF-8", "text too long", "c")
        ]


@pytest.mark.parametrize("codec", ["NONE", "SNAPPY", "ZSTD"])
def test_any_damage_is_broken_and_no_error(path, codec):
    pa.parquet.write_table(pa.table({"text": TEXTS}), path, compression=codec)
    content = path.read_bytes()
    end = len(content) - 8 - int.from_bytes(content[-8:-4], "little")
    draw = random.Random(0)
    for _ in range(40):
        damaged = bytearray(content)
        at = draw.randrange(4, end)
        damaged[at : at + 4] = draw.randbytes(4)
        path.write_bytes(damaged)
        assert len(read(path)) <= len(TEXTS) + 1


def test_runs_are_the_numbers_that_were_packed():
    draw = np.random.default_rng(0)
    for width in (1, 3, 9, 32):
        numbers = draw.integers(0, 1 << width, 24)
        bits = (numbers[:, None] >> np.arange(width) & 1).astype(np.uint8).ravel()
        same = int(numbers[0])
        data = bytes([3 << 1 | 1, *np.packbits(bits, bitorder="little"), 10 << 1]) + same.to_bytes(
            -(-width // 8), "little"
        )
        assert large_pages._read_runs(data, width, 30).tolist() == [*numbers.tolist(), *[same] * 6]
        with pytest.raises(ValueError, match="fewer numbers"):
            large_pages._read_runs(data, width, 35)


def test_a_full_disk_is_no_corrupt_file(path, monkeypatch):
    pa.parquet.write_table(pa.table({"text": TEXTS}), path)
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda: open("/dev/full", "r+b", buffering=0))  # noqa: SIM115
    with pytest.raises(RetryableError, match="No space left on device; set TMPDIR to a folder with room for 4 GB"):
        read(path)
