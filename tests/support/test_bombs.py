import pytest

from tests.support import bombs

FAST = [
    *("line.txt.zst", "line.jsonl.zst", "line.csv.gz", "fields.csv.gz", "books.parquet", "lying-page.parquet"),
    *("page.warc.gz", "gzip-chunk.warc.gz", "tags.warc.gz"),
]
SLOW = [
    *("line.txt.gz", "lists.jsonl.zst", "objects.jsonl.gz", "keys.jsonl.gz", "escapes.jsonl.gz"),
    *("escaped-text.jsonl.gz", "names.csv.gz", "cell.csv.gz"),
    *(
        "quotes.csv",
        "dictionary.parquet",
        "large-dictionary.parquet",
        "page.parquet",
        "metadata.parquet",
        "header.warc.gz",
        "emoji.warc.gz",
        "notes.warc.gz",
    ),
]
LAST = ("txt", "names", "lying", "metadata", "header")  # of names of those that have no record after them


@pytest.mark.parametrize("names", [FAST, pytest.param(SLOW, marks=pytest.mark.slow)], ids=["fast", "slow"])
def test_no_small_file_takes_more_memory_than_a_worker_may(tmp_path, names):
    """One process reads them all; after each broken record it finds the good one."""
    contents = bombs.make(20 * bombs.MB)
    for name in names:
        (tmp_path / name).write_bytes(contents[name]())
    for name, (counts, peak_mb, _) in bombs.run(*(tmp_path / name for name in names)).items():
        assert peak_mb < bombs.LIMIT_MB, (name, peak_mb)
        assert counts["good"] == (not any(part in name for part in LAST)), (name, counts)
        assert set(counts) > {"good"}


@pytest.mark.slow
def test_a_text_that_normalization_makes_three_times_as_long_takes_no_more_memory(tmp_path):
    """In the whole of prepare: its tokens took 600 MB."""
    (tmp_path / "notes.jsonl.gz").write_bytes(bombs.make(bombs.MB)["notes.jsonl.gz"]())
    flags = "--clean unicode --language --dedup none --pii off --val 0 --workers 1"
    counts, peak_mb, _ = bombs.prepare(tmp_path / "notes.jsonl.gz", flags.split())
    assert counts["records"] == 2 and 100 < peak_mb < bombs.LIMIT_MB
