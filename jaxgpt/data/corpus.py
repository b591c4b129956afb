"""Where tokens come from: a text file, a token file, a prepared folder, or tiny Shakespeare."""

import codecs
import concurrent.futures
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import json
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.console import program
from jaxgpt.data.cache import cache_folder, make_private, write_atomically
from jaxgpt.data.documents import (
    BYTE_ORDER_MARK,
    find_jsonl_command,
    require_no_utf16,
    require_text_format,
    split_documents,
)
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.plain_tokenizers import CharTokenizer
from jaxgpt.data.records import JSON_LINES, parse_jsonl, require_text
from jaxgpt.data.shards import Tokens, open_split, read_tokenizer
from jaxgpt.data.token_file import HEADER_BYTES, header, map_file
from jaxgpt.data.tokenizer import ENDOFTEXT, Tokenizer
from jaxgpt.errors import DataError
from jaxgpt.progress_bar import stage

# The text of Karpathy's char-rnn (data/tinyshakespeare/input.txt), 1,115,394 bytes.
SHAKESPEARE = Path(__file__).with_name("tiny_shakespeare.txt.gz")
DIGEST_BYTES = slice(64, 96)  # of the header: in our cache the SHA-256 of the tokens; llm.c leaves it empty
PREPARED = (".parquet", ".gz", ".zst", ".warc", ".wet")  # only `jaxgpt prepare` reads them
UTF_16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
MARKS = [mark.encode() for mark in (ENDOFTEXT, BYTE_ORDER_MARK, "\r\n")]  # which split_documents takes out


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Tokens on the host.

    Attributes:
      name: what the user calls it: a path or a title.
      tokens: uint16 or uint32 (N,), every id below the tokenizer's vocab_size; a memmap for a token file;
        shards.Tokens for a folder.
      fingerprint: SHA-256 of the tokens, little-endian, which does not depend on the kind of file. A folder is not read
        whole: its fingerprint is made of its shards' hashes.
      documents: how many end tokens there are; 0 for a folder, where they are not counted.
      tokenizer: that of the tokens.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str
    documents: int = 0
    tokenizer: Tokenizer = GPT2_TOKENIZER


def load(
    data: str = "shakespeare",
    cache: Path | None = None,
    split: str = "train",
    tokenizer: Tokenizer = GPT2_TOKENIZER,
) -> Corpus:
    """Open a corpus.

    Args:
      data: a path (a prepared folder; `.bin`: token file; `.jsonl` or `.ndjson`: documents, each the field "text" of an
        object a line; anything else: UTF-8 text), or "shakespeare", which is part of the package.
      cache: the folder that keeps the tokens of texts; by default $JAXGPT_CACHE or ~/.cache/jaxgpt.
      split: which split of a prepared folder; files have none.
      tokenizer: of the text; tokens must be its own.

    Raises:
      DataError: one line that names the file, what is wrong with it, and what to do.
    """
    cache = cache or cache_folder()
    if data == "shakespeare":
        return _text_corpus("tiny Shakespeare", _read_shakespeare(), cache, tokenizer)
    if "://" in data:
        prepare = f"{program('prepare')} {shlex.quote(data)} --out data/NAME"
        examples = f"{prepare}; or, if it has examples: {find_jsonl_command(data)}"
        raise DataError(f"{data}: not a file; {examples if data.startswith('hf://') else 'download it'}")
    path = Path(data)
    if data and os.path.isdir(path):  # Path.is_dir raises an error for a name that is too long
        require_text_format(data)
        tokens = open_split(path, split, tokenizer)
        return Corpus(f"{data} ({split})", tokens, tokens.fingerprint, tokenizer=tokenizer)
    try:
        if path.exists():
            require_text_format(data)
            _require_unprepared(data, split)
        if path.suffix.lower() == ".bin":
            tokens = _require_width(path, map_file(path, tokenizer.dtype))
            return check_tokens(str(path), tokens, tokenizer)
        return _text_corpus(data, path.read_bytes(), cache, tokenizer)
    except FileNotFoundError:
        raise DataError(
            f"{data}: no such file; --data takes a UTF-8 text, a .bin token file, a prepared folder or shakespeare"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: not a possible file name, such as one with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{data}: {reason}; --data must name a file that can be read") from None


def read_characters(data: str) -> CharTokenizer:
    """The tokenizer `chars` of a text or a prepared folder: an id for each of its characters.

    Raises:
      DataError: as `load`; or its characters are not known.
    """
    if data == "shakespeare":
        return CharTokenizer.of(*_documents("tiny Shakespeare", _read_shakespeare()))
    path = Path(data)
    if os.path.isdir(path):
        tokenizer = read_tokenizer(path)
        if isinstance(tokenizer, CharTokenizer):
            return tokenizer
    if os.path.isdir(path) or path.suffix.lower() in (".bin", *PREPARED):
        raise DataError(f"{data}: tokens that are no characters; --tokenizer chars takes a text, or a folder of them")
    if not os.path.exists(path):
        load(data)  # whose error it is
    return CharTokenizer.of(*_documents(data, path.read_bytes()))


def _read_shakespeare() -> bytes:
    return gzip.decompress(SHAKESPEARE.read_bytes())


def _text_corpus(name: str, content: bytes, cache: Path, tokenizer: Tokenizer) -> Corpus:
    if not content:
        raise DataError(f"{name}: the file is empty; a corpus needs text")
    is_jsonl = _is_jsonl(name)
    # The name without a kind may be that of tokens which a program made that reads these marks as text.
    kind = "jsonl-" if is_jsonl else "documents-" if any(mark in content for mark in MARKS) else ""
    cached = cache / "tokens" / f"{tokenizer.cache_name}-{kind}{hashlib.sha256(content).hexdigest()}.bin"
    with contextlib.suppress(OSError, DataError):  # missing or corrupt: tokenize again
        make_private(cached.parent)
        with cached.open("rb") as file:
            corpus = check_tokens(name, map_file(cached, tokenizer.dtype), tokenizer)
            if file.read(HEADER_BYTES)[DIGEST_BYTES] == bytes.fromhex(corpus.fingerprint):
                return corpus
    texts, has_end = _documents(name, content)
    try:
        make_tokens = functools.partial(tokenize_documents, texts) if has_end else functools.partial(tokenize, texts[0])
        tokens = make_tokens(name=name, tokenizer=tokenizer)
    except DataError as error:
        raise DataError(f"{name}: {error}") from None
    if not len(tokens):
        raise DataError(f"{name}: there is no text in the file; a corpus needs some")
    corpus = check_tokens(name, tokens, tokenizer)
    with contextlib.suppress(OSError):  # a cache that can't be written costs the next start a second, nothing else
        signed_header = bytearray(header(len(tokens), tokenizer.dtype))
        signed_header[DIGEST_BYTES] = bytes.fromhex(corpus.fingerprint)
        write_atomically(cached, signed_header + tokens.tobytes())
    return corpus


def _require_width(path: Path, tokens: np.ndarray) -> np.ndarray:
    """The tokens of a file. Refused are ids of four or eight bytes: read as two, all but the first of each are 0."""
    if tokens.dtype.itemsize > 2:
        return tokens
    head = tokens[: 1 << 20]
    if len(head) >= 16 and head[::2].any() and not head[1::2].any():
        kind = "uint32" if head[2::4].any() else "int64"
        names = (json.dumps(name, ensure_ascii=False) for name in (str(path), f"{path.stem}.uint16.bin"))
        code = "import numpy; numpy.fromfile({}, numpy.{}).astype(numpy.uint16).tofile({})"
        convert = f"python -c {shlex.quote(code.format(next(names), kind, next(names)))}"
        raise DataError(f"{path}: every second id is 0, as in {kind}, and ids are uint16; convert it: {convert}")
    return tokens


def _require_unprepared(data: str, split: str) -> None:
    """Refuse a file that only `jaxgpt prepare` reads, with the command for it."""
    suffix = Path(data).suffix.lower()
    if suffix in PREPARED:
        problem = "compressed; unpack it, or" if suffix in (".gz", ".zst") else "not a text;"
        out = shlex.quote(f"data/{Path(data).name.split('.')[0]}")
        command, tokens = f"{program('prepare')} {shlex.quote(data)} --out {out}", out
        if split != "train":  # a prepared folder's validation split would have a hundredth of it
            command, tokens = f"{command} --val 0", f"{out}/train_000000.bin"
        examples = f"; or, if it has examples: {find_jsonl_command(data)}" * (suffix == ".parquet")
        raise DataError(f"{data}: {problem} tokenize it: {command}; then use --data {tokens}{examples}")


def _is_jsonl(name: str) -> bool:
    return name.lower().endswith(JSON_LINES)


def _documents(name: str, content: bytes) -> tuple[list[str], bool]:
    """The texts of a file, and whether they are documents, each of which begins with the end token."""
    if _is_jsonl(name):
        return _read_json_lines(name, content), True
    parts = _read_parts(name, content)
    return (parts, False) if len(parts) == 1 else ([part for part in parts if part.strip()], True)


def _read_json_lines(name: str, content: bytes) -> list[str]:
    texts = []
    with stage(f"reading {name}", content.count(b"\n")) as advance:
        for line, record in parse_jsonl(name, content):
            texts.append(require_text(f"{name}, line {line}", record, "text", may_be_empty=True))
            advance(1)
    return [text for text in texts if text.strip()]


def _read_parts(name: str, content: bytes) -> list[str]:
    """The parts of a UTF-8 text, as documents.split_documents has them."""
    if not content.startswith(UTF_16_MARKS):
        require_no_utf16(name, content)
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        encoding = "utf-16" if content.startswith(UTF_16_MARKS) else "latin1"
        remedy = f"convert it first, for example: iconv -f {encoding} -t utf-8"
        if encoding == "latin1" and b"\0" in content:
            remedy = "it looks binary; convert it to text first"
        raise DataError(
            f"{name}: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}; {remedy}"
        ) from None
    return split_documents(text)


def tokenize(
    text: str, piece_chars: int = 1 << 20, name: str = "a text", tokenizer: Tokenizer = GPT2_TOKENIZER
) -> np.ndarray:
    """A text's ids, those of one call of `tokenizer.encode`, on all cores and in bounded memory."""

    def encode_piece(piece: str) -> tuple[np.ndarray, int]:
        return tokenizer.encode(piece), len(piece)

    with stage(f"tokenizing {name}", len(text), unit="M characters") as advance:
        return _concatenate_in_threads(encode_piece, tokenizer.split(text, piece_chars), advance, tokenizer.dtype)


def tokenize_documents(
    documents: Sequence[str], batch_size: int = 256, name: str = "a text", tokenizer: Tokenizer = GPT2_TOKENIZER
) -> np.ndarray:
    """The ids of documents, each after the end token, as `jaxgpt prepare` writes them."""
    begin = np.array([tokenizer.require_end("several documents")], tokenizer.dtype)

    def encode_batch(start: int) -> tuple[np.ndarray, int]:
        texts = documents[start : start + batch_size]
        return np.concatenate([ids for text in texts for ids in (begin, tokenizer.encode(text))]), len(texts)

    with stage(f"tokenizing the documents of {name}", len(documents)) as advance:
        return _concatenate_in_threads(encode_batch, range(0, len(documents), batch_size), advance, tokenizer.dtype)


def _concatenate_in_threads(
    make: Callable[[Any], tuple[np.ndarray, int]],
    items: Iterable[Any],
    advance: Callable[[int], None],
    dtype: np.dtype,
) -> np.ndarray:
    """The arrays that `make` gives for the items, one after the other; `advance` takes the numbers beside them."""
    arrays = [np.empty(0, dtype)]
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        for array, amount in threads.map(make, items):
            arrays.append(array)
            advance(amount)
    return np.concatenate(arrays)


def check_tokens(name: str, tokens: np.ndarray, tokenizer: Tokenizer = GPT2_TOKENIZER) -> Corpus:
    """Read every token once, for the fingerprint and for ids that the model has no row for."""
    digest, documents, chunk, size = hashlib.sha256(), 0, 1 << 24, tokenizer.vocab_size
    with stage(f"reading the tokens of {name}", tokens.nbytes, unit="MB") as advance:
        for start in range(0, len(tokens), chunk):
            part = np.asarray(tokens[start : start + chunk])
            if part.max() >= size:
                at = int(np.argmax(part >= size))
                raise DataError(
                    f"{name}: token {start + at:,} is {part[at]}, beyond the vocabulary of {size:,} of the tokenizer "
                    f"{tokenizer.name}; encode the text with that one"
                )
            digest.update(part)
            documents += 0 if tokenizer.end is None else int(np.count_nonzero(part == tokenizer.end))
            advance(part.nbytes)
    return Corpus(name, tokens, digest.hexdigest(), documents, tokenizer)
