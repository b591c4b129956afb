import contextlib
import gzip
import io
import json

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
import zstandard

from jaxgpt.data import corpus
from jaxgpt.data.datasets import open_data
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.records import parse_records, read_jsonl, require_text
from jaxgpt.errors import DataError
from jaxgpt.prepare import parquet_rows, readers, sources
from jaxgpt.prepare.readers import Broken


def read(*paths, field="text"):
    """The lines and texts, or broken records, of all units."""
    rows = []
    for unit in [unit for piece in sources.plan_pieces(map(str, paths)) for unit in piece]:
        counter = readers.LineCounter()
        rows += [(line, each) for line, each in readers.READERS[unit.kind](unit, field, counter)]
    return rows


LINES = [
    b'{"text": "one"}',
    b"{nope",
    b"",
    b'{"x": 1}',
    b'["a"]',
    b'{"text": 3}',
    b'{"text": "\xff"}',
    b'{"text": "two\xc3\xa9"}',
]
REASONS = [(2, "not JSON"), (4, "no text"), (5, "not a JSON object"), (6, "not a text"), (7, "not UTF-8")]


@pytest.mark.parametrize(
    "record, kept",
    [
        (b'{"score": NaN, "text": "a"}', True),
        (b'{"score": [-Infinity, 1e999], "text": "a"}', True),
        (b'{"title": "half \\ud83d", "text": "a"}', True),
        (b'{"\\ude00": 1, "text": "a"}', True),
        (b'\xef\xbb\xbf {"text": "a"}\r', True),
        (b'{"text": "half \\ud83d"}', False),
        (b'{"text": NaN}', False),
        (b'{"n": 1' + b"0" * 5000 + b', "text": "a"}', False),
        (b'{"n": ' + b"[" * 10_000 + b"}", False),
    ],
)
def test_what_train_reads_is_no_broken_record(tmp_path, record, kept):
    (tmp_path / "a.jsonl").write_bytes(record)
    ((_, text),) = read(tmp_path / "a.jsonl")
    assert (text == "a") if kept else isinstance(text, Broken)
    with contextlib.nullcontext() if kept else pytest.raises(DataError):
        assert require_text("a", read_jsonl(tmp_path / "a.jsonl")[0][1], "text") == "a"


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
def test_every_line_of_jsonl_is_a_text_or_a_broken_record(tmp_path, suffix):
    path = tmp_path / f"a.jsonl{suffix}"
    content = b"\n".join(LINES)
    pack = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}[suffix]
    path.write_bytes(pack(content))
    rows = read(path)
    assert [(line, each) for line, each in rows if isinstance(each, str)] == [(1, "one"), (8, "twoé")]
    assert [(line, each.reason) for line, each in rows if isinstance(each, Broken)] == REASONS
    if suffix:  # a truncated file is reported, at the line where the missing content begins
        path.write_bytes(path.read_bytes()[:-12])
        *before, (line, last) = read(path)
        assert before == rows[: len(before)] and last.reason == "corrupt file" and line > len(before)


def test_pieces_have_every_line_once_whatever_their_borders(tmp_path, monkeypatch):
    """Against one read of the whole file: lines of 1 to 60 bytes, cut at any byte."""
    texts = ["x" * (7 * i % 50) + f" {i}" for i in range(60)]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    (tmp_path / "a.txt").write_text("\n".join(texts))
    for size in (1, 2, 13, 60, 61, 1000, 10**6):
        monkeypatch.setattr(sources, "PIECE_BYTES", size)
        monkeypatch.setattr(sources, "CUT_BYTES", size)
        assert [text for _, text in read(tmp_path / "a.jsonl")] == texts
        assert "".join(text for _, text in read(tmp_path / "a.txt")) == "\n".join(texts)


def test_a_line_too_long_is_broken_and_the_next_is_read(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "JSON_LINE_BYTES", 30)
    (tmp_path / "a.jsonl").write_text('{"text": "%s"}\n{"text": "b"}\n' % ("a" * 300))
    (_, long), (line, text) = read(tmp_path / "a.jsonl")
    assert (long.reason, line, text) == ("line too long", 2, "b")


def test_an_escaped_text_is_read_though_its_line_is_six_times_as_long(tmp_path):
    text = "\u0434\u0430" * (1_450_000 // 2)  # of a Russian novel: a line of 8.7 MB
    (tmp_path / "a.jsonl").write_text(json.dumps({"text": text}) + "\n")
    assert [each == text for _, each in read(tmp_path / "a.jsonl")] == [True]
    assert open_data(str(tmp_path / "a.jsonl"), 1, 1).tokens is not None


@pytest.mark.parametrize("suffix, cut", [("", 70), (".gz", 70), (".gz", 10**6)])
def test_a_long_line_of_text_is_read_in_parts_of_whole_characters(tmp_path, monkeypatch, suffix, cut):
    """It counts as one line, and no part of it separates documents."""
    monkeypatch.setattr(readers, "RECORD_BYTES", 40)
    for module in (readers, sources):
        monkeypatch.setattr(module, "CUT_BYTES", cut)
    for shift in range(5):
        line = "a" * shift + "\u0434\u20ac\U0001f600z" * 30
        line += "b" * (-(len(line.encode()) - 40) % 39) + "<|endoftext|>"  # a part of its own, or nearly
        content = f"{line}\nend\n<|endoftext|>\nnew"
        (tmp_path / f"a.txt{suffix}").write_bytes((gzip.compress if suffix else bytes)(content.encode()))
        *parts, (at, last) = read(tmp_path / f"a.txt{suffix}")
        assert "".join(each for _, each in parts) == f"{line}\nend\n" and last == "new"
        assert suffix == "" or (at == 4 and {at for at, _ in parts} <= {1, 2})  # lines of a unit


def test_a_unit_within_a_long_line_reads_no_further(tmp_path, monkeypatch):
    class CountingFile(io.BytesIO):
        def readline(self, size):
            sizes.append(len(line := super().readline(size)))
            return line

    sizes = []
    (tmp_path / "a.txt").write_bytes(b"a" * (6 << 20) + b"\nb")
    monkeypatch.setattr(sources, "CUT_BYTES", 1 << 20)
    monkeypatch.setattr(readers, "open_file", lambda path: CountingFile(path.read_bytes()))
    assert [len(text) for _, text in read(tmp_path / "a.txt")] == [(6 << 20) + 1, 1]
    assert sum(sizes) < 16 << 20  # and not 6 + 6 + 6 + 5 + 4 + 3 + 2 + 1 MiB


def test_lines_of_endoftext_separate_documents(tmp_path):
    path = tmp_path / "stories.txt"
    content = "\ufeffone\r\nline\n<|endoftext|>\n\n<|endoftext|>\ntwo <|endoftext|> too\n <|endoftext|> \n"
    path.write_bytes(content.encode())
    assert read(path) == [(1, "one\nline\n"), (6, "two <|endoftext|> too\n")]
    trained_on = encoding().decode(corpus.load(str(path)).tokens.tolist())  # by `jaxgpt train --data stories.txt`
    assert trained_on == "".join(f"<|endoftext|>{text}" for _, text in read(path))
    (tmp_path / "empty.md").write_text("")
    (tmp_path / "blank.md").write_text(" \n\n")
    assert [text.strip() for _, text in read(tmp_path / "empty.md", tmp_path / "blank.md")] == ["", ""]
    (tmp_path / "latin.txt").write_bytes("caf\u00e9".encode("latin-1"))
    assert read(tmp_path / "latin.txt")[0][1].reason == "not UTF-8"


def test_tables(tmp_path):
    (tmp_path / "a.csv").write_bytes(b'id,text\n1,"a, and\nb"\n2\n3,c\xff\n4,"d"\n')
    assert read(tmp_path / "a.csv") == [
        (2, "a, and\nb"),
        (4, Broken("not CSV", "1 fields, and the first line names 2")),
        (5, Broken("not UTF-8")),
        (6, "d"),
    ]
    (tmp_path / "a.tsv").write_text('id\ttext\n1\t"quoted" text\n')
    assert read(tmp_path / "a.tsv") == [(2, '"quoted" text')]
    (tmp_path / "b.csv").write_text("id,body\n1,a\n")
    assert read(tmp_path / "b.csv", field="body") == [(2, "a")]
    assert read(tmp_path / "b.csv")[0][1].reason == "no text"


def test_a_field_is_found_as_train_finds_it(tmp_path):
    """Its own name before one with blanks or capitals; which of two equal ones is meant, nobody knows."""
    (tmp_path / "a.csv").write_text(" Text ,id\na,1\n")
    (tmp_path / "b.tsv").write_text("TEXT\ttext\nno\tb\n")
    (tmp_path / "c.jsonl").write_text('{" Text": "c"}\n{"Text": "no", "text": "d"}\n')
    pa.parquet.write_table(pa.table({"TEXT": ["e"]}), tmp_path / "d.parquet")
    for file, texts in (("a.csv", ["a"]), ("b.tsv", ["b"]), ("c.jsonl", ["c", "d"]), ("d.parquet", ["e"])):
        assert [text for _, text in read(tmp_path / file)] == texts
    tokens = open_data(str(tmp_path / "c.jsonl"), 1, 1).tokens  # as `jaxgpt train --data c.jsonl`
    assert encoding().decode(tokens.tolist()) == "<|endoftext|>c<|endoftext|>d"
    for file, texts in (("a.csv", ["a"]), ("b.tsv", ["b"])):
        parsed = parse_records(file, (tmp_path / file).read_bytes())
        assert [require_text(file, record, "text") for _, record in parsed] == texts
    (tmp_path / "e.csv").write_text("text,text\na,b\n")
    pa.parquet.write_table(pa.Table.from_arrays([pa.array(["a"])] * 2, ["text"] * 2), tmp_path / "e.parquet")
    for file, listed in (("e.csv", "the 2 of the first line"), ("e.parquet", "'text', 'text'")):
        ((_, broken),) = read(tmp_path / file)
        assert broken == Broken("no text", f"more than one field 'text' among {listed}")


@pytest.mark.parametrize(
    "quote, cells, broken",
    [
        ("", "", [4]),  # nothing closes it: the rest of the file would be one cell
        ("", '"', [4]),  # the quote of the next row closes it
        ('"', '"', []),
        ('"', "", []),
    ],
)
def test_an_unclosed_quote_costs_its_own_line(tmp_path, quote, cells, broken):
    rows = [f"{i},{cells}text {i}{cells}" for i in range(100)]
    rows[2] = f'2,"text 2{quote}'
    (tmp_path / "a.csv").write_text("\n".join(["id,text", *rows]))
    found = read(tmp_path / "a.csv")
    assert [line for line, _ in found] == list(range(2, 102))
    assert [(line, each.reason) for line, each in found if isinstance(each, Broken)] == [(n, "not CSV") for n in broken]
    assert all(each == f"text {line - 2}" for line, each in found if line not in broken)


@pytest.mark.parametrize("field", ["text", "body"])
def test_every_row_counts_where_no_column_can_be_read(tmp_path, field):
    """Where the first line, with the names, can't be parsed, or the name is not among them."""
    (tmp_path / "a.csv").write_text("\n" + ('id,"text' if field == "text" else "id,text") + "\n1,a\n\n2,b")
    reasons = {line: each.reason for line, each in read(tmp_path / "a.csv", field=field)}
    assert reasons == ({2: "not CSV"} if field == "text" else {}) | {3: "no text", 5: "no text"}


def test_parquet_by_row_groups(tmp_path):
    texts = [f"row {i}" for i in range(50)]
    path = tmp_path / "a.parquet"
    pa.parquet.write_table(pa.table({"text": [*texts, None], "n": range(51)}), path, row_group_size=20)
    units = [unit for piece in sources.plan_pieces([str(path)]) for unit in piece]
    assert [(unit.start, unit.end) for unit in units] == [(0, 1), (1, 2), (2, 3)]
    *rows, (row, last) = read(path)
    assert [text for _, text in rows] == texts and (row, last.reason) == (11, "not a text")
    assert [each.reason for _, each in read(path, field="body")] == ["no text"] * 51
    path.write_bytes(path.read_bytes()[:200])
    assert [each.reason for _, each in read(path)] == ["corrupt file"]
    column = pa.array([b"one", b"caf\xe9", b"two"]).view(pa.string())
    pa.parquet.write_table(pa.table({"text": column}), path)
    assert read(path) == [(1, "one"), (2, Broken("not UTF-8")), (3, "two")]


def test_parquet_without_row_groups_has_no_documents(tmp_path):
    with pa.parquet.ParquetWriter(tmp_path / "a.parquet", pa.schema([("text", pa.string())])):
        pass
    assert pa.parquet.ParquetFile(tmp_path / "a.parquet").num_row_groups == 0
    ((unit,),) = sources.plan_pieces([str(tmp_path / "a.parquet")])
    assert unit.name == str(tmp_path / "a.parquet") and read(tmp_path / "a.parquet") == []


def warc(kind, body, content):
    """A record of a WARC file (ISO 28500)."""
    head = f"WARC/1.0\r\nWARC-Type: {kind}\r\nWARC-Record-ID: <urn:uuid:1>\r\nWARC-Target-URI: http://a/\r\n"
    head += f"WARC-Date: 2026-01-01T00:00:00Z\r\nWARC-Identified-Payload-Type: {content}\r\n"
    return f"{head}Content-Length: {len(body.encode())}\r\n\r\n{body}\r\n\r\n".encode()


def test_pages_of_a_crawl(tmp_path):
    """A WARC file: the main text of HTML; a WET file: its text as it is."""
    paragraphs = "".join(
        f"<p>The sea was calm on day {i}, and the ship sailed on without a sound.</p>" for i in range(9)
    )
    page = f"<html><body><nav>Home | About</nav><article>{paragraphs}</article></body></html>"
    answer = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n{page}"
    records = [warc("response", answer, "text/html"), warc("request", "GET / HTTP/1.0\r\n\r\n", "text/html")]
    (tmp_path / "a.warc.gz").write_bytes(b"".join(map(gzip.compress, records)))
    (tmp_path / "b.warc.wet").write_bytes(warc("conversion", "plain words", "text/plain"))
    ((line, text), (_, plain)) = read(tmp_path / "a.warc.gz", tmp_path / "b.warc.wet")
    assert line == 1 and text.count("The sea was calm") == 9 and "Home" not in text
    assert plain == "plain words"
    (tmp_path / "a.warc.gz").write_bytes((tmp_path / "a.warc.gz").read_bytes()[:200])
    assert read(tmp_path / "a.warc.gz")[-1][1].reason == "corrupt file"


def test_a_page_too_large_says_so(tmp_path):
    answer = f"HTTP/1.0 200 OK\r\nContent-Type: text/html\r\n\r\n<p {' '.join(f'a{i}' for i in range(1001))}>"
    (tmp_path / "a.warc").write_bytes(warc("response", answer, "text/html"))
    ((_, broken),) = read(tmp_path / "a.warc")
    assert broken.reason == "page too large" and broken.detail.endswith("than 1,000 attributes of an element")


def test_want_of_memory_breaks_no_record(tmp_path, monkeypatch):
    def fail(*_, **__):
        raise pa.lib.ArrowMemoryError("malloc of size 64 failed")

    pa.parquet.write_table(pa.table({"text": ["a"]}), tmp_path / "a.parquet")
    (tmp_path / "a.warc").write_bytes(warc("response", "HTTP/1.0 200 OK\r\n\r\n<p>words</p>", "text/html"))
    monkeypatch.setattr(parquet_rows, "_get_cell", fail)
    monkeypatch.setattr("jaxgpt.prepare.readers.extract_text", fail)
    for name in ("a.parquet", "a.warc"):
        with pytest.raises(MemoryError):
            read(tmp_path / name)


@pytest.mark.parametrize("name", ["a.jsonl.zst", "a.txt.gz", "a.csv.gz", "a.csv", "a.parquet", "a.warc", "a.jsonl"])
def test_a_corrupt_file_does_not_stop_the_others(tmp_path, name):
    """Random bytes, and what begins like such a file."""
    rng = np.random.default_rng(0)
    for begin in (
        b"",
        gzip.compress(b"x" * 99)[:20],
        zstandard.compress(b"x" * 99)[:9],
        b'id,"text\n',
        b"[" * 2000,
        b"PAR1",
    ):
        (tmp_path / name).write_bytes(begin + rng.integers(0, 256, 500, np.uint8).tobytes())
        assert all(isinstance(each, Broken) for _, each in read(tmp_path / name))


def test_a_compressed_text_is_cut_like_a_plain_one(tmp_path, monkeypatch):
    monkeypatch.setattr(readers, "CUT_BYTES", 100)
    text = "".join(f"line {i}\n" for i in range(90))
    (tmp_path / "a.txt.gz").write_bytes(gzip.compress(text.encode()))
    rows = read(tmp_path / "a.txt.gz")
    assert "".join(part for _, part in rows) == text and len(rows) > 5
    assert all(text.split("\n")[line - 1] == part.split("\n")[0] for line, part in rows)


def test_a_dataset_is_streamed(tmp_path, monkeypatch):
    """A folder of that name, which the library takes for it; its files are the shards."""
    (tmp_path / "owner" / "name").mkdir(parents=True)
    monkeypatch.chdir(tmp_path)
    for name in "ab":
        (tmp_path / "owner" / "name" / f"{name}.jsonl").write_text(
            "".join(json.dumps({"text": f"{name}{i}"}) + "\n" for i in range(3))
        )
    texts = [text for _, text in read("hf://owner/name")]
    assert texts == ["a0", "a1", "a2", "b0", "b1", "b2"]
