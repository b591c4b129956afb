import contextlib
import gzip
import hashlib
import shlex
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.errors import DataError

TEXT = "First Citizen:\nBefore we proceed any further, hear me speak.\n\nAll:\nSpeak, <|endoftext|> speak.\n"


def llm_c_file(tokens, magic=20240520, version=1, count=None):
    header = np.zeros(256, np.int32)
    header[:3] = magic, version, len(tokens) if count is None else count
    return header.tobytes() + np.asarray(tokens, np.uint16).tobytes()


# ---- Text


def test_a_text_gives_the_ids_of_tiktoken(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    loaded = corpus.load(str(tmp_path / "a.txt"))
    assert loaded.tokens.tolist() == encoding().encode_ordinary(TEXT)
    assert loaded.tokens.dtype == np.uint16
    assert loaded.fingerprint == hashlib.sha256(loaded.tokens.tobytes()).hexdigest()
    assert loaded.name == str(tmp_path / "a.txt")


STORIES = "<|endoftext|>\nOne.\n\nTwo <|endoftext|>.\n <|endoftext|> \n\n<|endoftext|>\n\nThree,\nlong\n<|endoftext|>"


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_a_line_of_endoftext_is_the_token(tmp_path, newline):
    """By hand. Blank documents are no documents, as for `jaxgpt prepare`; see tests/prepare/test_documents.py."""
    path = tmp_path / "stories.txt"
    path.write_bytes(STORIES.replace("\n", newline).encode())
    for start in ("first", "from the cache"):
        loaded = corpus.load(str(path))
        one, two = map(encoding().encode_ordinary, ("One.\n\nTwo <|endoftext|>.\n", "\nThree,\nlong\n"))
        assert loaded.tokens.tolist() == [50256, *one, 50256, *two], start
        assert loaded.documents == 2
    (tmp_path / "plain.txt").write_bytes(TEXT.encode())
    assert corpus.load(str(tmp_path / "plain.txt")).documents == 0


def test_tokens_that_were_cached_by_another_rule_are_not_taken(tmp_path, cache):
    """Once the cache had the tokens of every character of a file, under the hash of the file."""
    content = STORIES.encode()
    (tmp_path / "a.txt").write_bytes(content)
    expected = corpus.load(str(tmp_path / "a.txt"))
    (kept,) = (cache / "tokens").iterdir()
    ids = np.array(encoding().encode_ordinary(STORIES), np.uint16)
    signed_header = bytearray(llm_c_file(ids))
    signed_header[corpus.DIGEST_BYTES] = hashlib.sha256(ids.tobytes()).digest()
    kept.unlink()
    (cache / "tokens" / f"gpt2-{hashlib.sha256(content).hexdigest()}.bin").write_bytes(signed_header)
    assert corpus.load(str(tmp_path / "a.txt")).fingerprint == expected.fingerprint
    plain = content.replace(b"<|endoftext|>", b"")
    (tmp_path / "b.txt").write_bytes(plain)
    corpus.load(str(tmp_path / "b.txt"))
    assert (cache / "tokens" / f"gpt2-{hashlib.sha256(plain).hexdigest()}.bin").exists()  # as it always was


def test_a_byte_order_mark_and_the_line_ends_of_windows_change_no_token(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffa\r\n\r\nb\rc \ufeff".encode())
    assert encoding().decode(corpus.load(str(tmp_path / "a.txt")).tokens.tolist()) == "a\n\nb\rc \ufeff"


def test_the_second_start_does_not_tokenize(tmp_path, monkeypatch):
    (tmp_path / "a.txt").write_text(TEXT)
    first = corpus.load(str(tmp_path / "a.txt"))
    (tmp_path / "a.txt").rename(tmp_path / "b.txt")  # the cache goes by content, not by name
    monkeypatch.setattr(corpus, "tokenize", lambda *_, **__: pytest.fail("tokenized again"))
    second = corpus.load(str(tmp_path / "b.txt"))
    assert np.array_equal(first.tokens, second.tokens) and first.fingerprint == second.fingerprint


def test_a_corrupt_cache_is_replaced(tmp_path, cache):
    (tmp_path / "a.txt").write_text(TEXT)
    first = corpus.load(str(tmp_path / "a.txt"))
    (kept,) = (cache / "tokens").iterdir()
    content = kept.read_bytes()
    flipped = content[:1030] + bytes([content[1030] ^ 1]) + content[1031:]  # another token, in a valid file
    for corrupt in (b"", content[:-1], content[:100], flipped):
        kept.write_bytes(corrupt)
        assert np.array_equal(corpus.load(str(tmp_path / "a.txt")).tokens, first.tokens)


def test_an_unwritable_cache_does_not_matter(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    (tmp_path / "file").touch()
    assert len(corpus.load(str(tmp_path / "a.txt"), cache=tmp_path / "file" / "cache").tokens) > 0


WORDS = ["a", "B1", " ", "\n", "\n\n", "\t", "é", "'s", "\u3000", "\x1c", "\x85", "."]


@given(st.lists(st.sampled_from(WORDS)).map("".join))
@settings(max_examples=500, deadline=None)
def test_cutting_a_text_in_pieces_changes_no_token(text):
    assert corpus.tokenize(text, piece_chars=1).tolist() == encoding().encode_ordinary(text)
    documents = [f"{text}{i}" for i in range(5)]
    expected = [id for document in documents for id in (50256, *encoding().encode_ordinary(document))]
    assert corpus.tokenize_documents(documents, batch_size=2).tolist() == expected


def test_pieces_are_small():
    assert max(map(len, GPT2_TOKENIZER.split("to be or not\n" * 1000, 100))) < 120


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the file is empty"),
        (b"\n<|endoftext|>\n\n<|endoftext|>", "there is no text in the file"),
        (b"\xef\xbb\xbf", "there is no text in the file"),
        (b"abc\xff\xfe", r"not UTF-8: byte 0xff at offset 3; convert it first"),
        (TEXT.encode("utf-16-le"), r".* bytes are 0, as in UTF-16 without .*: iconv -f UTF-16LE -t UTF-8$"),
        (TEXT.encode("utf-16-be"), r".* bytes are 0, as in UTF-16 without .*: iconv -f UTF-16BE -t UTF-8$"),
        (TEXT.encode("utf-32-le"), r".* bytes are 0, as in UTF-32 without .*: iconv -f UTF-32LE -t UTF-8$"),
        (TEXT.encode("utf-32-be"), r".* bytes are 0, as in UTF-32 without .*: iconv -f UTF-32BE -t UTF-8$"),
        (TEXT.encode("utf-16"), r"not UTF-8: byte 0xff at offset 0; .* iconv -f utf-16 -t utf-8"),
        (gzip.compress(TEXT.encode()), r"not UTF-8: byte 0x8b at offset 1; it looks binary; convert it to text first"),
        ("né".encode()[:-1], r"not UTF-8: byte 0xc3 at offset 1"),
    ],
)
def test_a_file_that_is_not_text_is_refused(tmp_path, content, message):
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(DataError, match=f"a.txt: {message}"):
        corpus.load(str(tmp_path / "a.txt"))


PREPARED = "tokenize it: python -m jaxgpt prepare {0} --out data/my"


@pytest.mark.parametrize(
    "name, split, message",
    [
        ("my.parquet", "train", f"not a text; {PREPARED}; then use --data data/my"),
        ("my.jsonl.GZ", "train", f"compressed; unpack it, or {PREPARED}; then use --data data/my"),
        (
            "my.txt.zst",
            "val",
            f"compressed; unpack it, or {PREPARED} --val 0; then use --data data/my/train_0000",
        ),
        ("my.warc", "train", f"not a text; {PREPARED}; then"),
        ("my text.pdf", "train", "a PDF is not a text; convert it first: pdftotext {0}"),
        (
            "my.json",
            "train",
            "JSON must have one object a line and a name that ends in .jsonl; convert the list: jq",
        ),
        (
            "lines.json",
            "train",
            "JSON must have one object a line and a name that ends in .jsonl; if it has, rename it",
        ),
    ],
)
def test_another_format_is_refused_with_the_command_that_helps(tmp_path, name, split, message):
    (tmp_path / name).write_text('[{"text": "a"}]'.strip("[]" * (name == "lines.json")))  # UTF-8 does not help
    with pytest.raises(DataError) as caught:
        corpus.load(f"{tmp_path}/{name}", split=split)
    assert str(caught.value).startswith(f"{tmp_path}/{name}: " + message.format(shlex.quote(f"{tmp_path}/{name}")))


@pytest.mark.parametrize(
    "name, remedy",
    [
        (
            "hf://a/b",
            "prepare hf://a/b --out data/NAME; or, if it has examples: python -c 'import datasets; datasets."
            'load_dataset\\("a/b", split="train"\\).to_json\\("b.jsonl"\\)\'',
        ),
        ("https://a/b", "download it"),
    ],
)
def test_an_address_is_no_file(name, remedy):
    with pytest.raises(DataError, match=f"^{name}: not a file; .*{remedy}$"):
        corpus.load(name)


def test_json_lines_of_texts_are_documents(tmp_path, cache):
    (tmp_path / "a.ndjson").write_text(
        '\ufeff{"text": "One.\\r\\n", "id": 7}\n\n{"text": " \\n"}\n{"text": "<|endoftext|>\\ntwo"}\n'
    )
    (tmp_path / "a.txt").write_bytes((tmp_path / "a.ndjson").read_bytes())
    ids = [id for text in ("One.\r\n", "<|endoftext|>\ntwo") for id in (50256, *encoding().encode_ordinary(text))]
    for name, documents in (("a.ndjson", 2), ("a.txt", 0), ("a.ndjson", 2)):  # the cache tells them apart
        loaded = corpus.load(str(tmp_path / name))
        assert loaded.documents == documents and (loaded.tokens.tolist() == ids) == (documents == 2)
    (tmp_path / "b.jsonl").write_text('{"text": "One."}\n{"title": "Two."}\n')
    with pytest.raises(DataError, match=r"b.jsonl, line 2: no field 'text'"):
        corpus.load(str(tmp_path / "b.jsonl"))


def test_what_was_hashed_is_tokenized(tmp_path, monkeypatch):
    """Also where another process changes the file meanwhile: the cache goes by the hash."""
    path, read_bytes = tmp_path / "a.jsonl", Path.read_bytes
    path.write_text('{"text": "One."}')

    def read_and_change(path):
        content = read_bytes(path)
        path.write_text('{"text": "Two."}')
        return content

    monkeypatch.setattr(Path, "read_bytes", read_and_change)
    assert encoding().decode(corpus.load(str(path)).tokens.tolist()) == "<|endoftext|>One."


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    with pytest.raises(DataError, match="no such file; --data takes"):
        corpus.load(str(tmp_path / "nothing.txt"))
    with pytest.raises(DataError, match=r"a folder without meta.json, .*; if it has texts: .* prepare "):
        corpus.load(str(tmp_path))


# ---- Token files


@pytest.mark.parametrize("content", [np.arange(500, dtype=np.uint16).tobytes(), llm_c_file(np.arange(500))])
def test_token_files_are_mapped(tmp_path, content):
    (tmp_path / "a.bin").write_bytes(content)
    loaded = corpus.load(str(tmp_path / "a.bin"))
    assert loaded.tokens.tolist() == list(range(500))
    assert isinstance(loaded.tokens, np.memmap)


def test_the_fingerprint_is_of_the_tokens(tmp_path):
    (tmp_path / "a.txt").write_text(TEXT)
    ids = encoding().encode_ordinary(TEXT)
    (tmp_path / "raw.bin").write_bytes(np.array(ids, np.uint16).tobytes())
    (tmp_path / "header.bin").write_bytes(llm_c_file(ids))
    (tmp_path / "other.bin").write_bytes(llm_c_file([*ids[:-1], ids[-1] ^ 1]))
    prints = [corpus.load(str(tmp_path / n)).fingerprint for n in ("a.txt", "raw.bin", "header.bin", "other.bin")]
    assert prints[0] == prints[1] == prints[2] != prints[3]


@pytest.mark.parametrize(
    "content, message",
    [
        (b"", "the file holds no tokens"),
        (b"\1", "1 byte for ids of two bytes"),
        (llm_c_file([]), "the file holds no tokens"),
        (llm_c_file([1, 2, 3])[:-2], "its header counts 3 tokens, but 4 bytes follow it, not 6"),
        (llm_c_file([1, 2, 3]) + b"\0\0", "its header counts 3 tokens, but 8 bytes follow it, not 6"),
        (llm_c_file([1, 2, 3], count=-1), "its header counts -1 tokens"),
        (llm_c_file([1, 2, 3], version=7), "token file version 7; only 1, uint16 ids"),
        (llm_c_file([1, 2, 3])[:1000], "truncated: 1,000 bytes, less than a 1,024-byte header"),
        (llm_c_file([1, 2, 3])[:5], "truncated: 5 bytes, less than a 1,024-byte header"),
        (llm_c_file([1, 50256, 50257, 60000]), "token 2 is 50257, beyond the vocabulary of 50,257"),
        (np.array([65535], np.uint16).tobytes(), "token 0 is 65535, beyond"),
    ],
)
def test_corrupt_token_files_are_refused(tmp_path, content, message):
    (tmp_path / "a.bin").write_bytes(content)
    with pytest.raises(DataError, match=f"a.bin: .*{message}|a.bin: {message}"):
        corpus.load(str(tmp_path / "a.bin"))


@pytest.mark.parametrize("kind", [np.uint32, np.int64])
def test_ids_of_four_or_eight_bytes_are_refused_with_the_command_that_helps(tmp_path, kind):
    ids = encoding().encode_ordinary(TEXT)
    (tmp_path / "a.bin").write_bytes(np.array(ids, kind).tobytes())
    with contextlib.chdir(tmp_path):
        with pytest.raises(DataError, match=f"a.bin: every second id is 0, as in {kind.__name__}, and ") as error:
            corpus.load("a.bin")
        exec(shlex.split(str(error.value))[-1])
        assert corpus.load("a.uint16.bin").tokens.tolist() == ids


def test_a_few_zeros_are_a_text(tmp_path):
    (tmp_path / "a.txt").write_bytes(TEXT.encode() + b"\0")
    assert corpus.load(str(tmp_path / "a.txt")).tokens[-1] == encoding().encode_single_token(b"\0")
    (tmp_path / "a.bin").write_bytes(np.zeros(100, np.uint16).tobytes())
    assert len(corpus.load(str(tmp_path / "a.bin")).tokens) == 100


# ---- Tiny Shakespeare, which is in the package


def test_the_default_corpus_is_tiny_shakespeare():
    """Karpathy's text, and GPT-2's tokens of it, which runs have known by this fingerprint from the first one on."""
    text = gzip.decompress(corpus.SHAKESPEARE.read_bytes())
    assert len(text) == 1_115_394
    assert hashlib.sha256(text).hexdigest() == "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
    loaded = corpus.load()
    assert (loaded.name, len(loaded.tokens)) == ("tiny Shakespeare", 338_025)
    assert loaded.fingerprint == "25c01b32b32f41897a6359dd222ec114992dc30c357bcafbfe6c56672f76cd31"
    assert encoding().decode_bytes(loaded.tokens.tolist()) == text
    assert corpus.load("shakespeare").fingerprint == loaded.fingerprint  # from the cache
