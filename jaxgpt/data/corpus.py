"""Where tokens come from: a text file, a token file, a prepared folder, or tiny Shakespeare."""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import hashlib
import os
import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxgpt.data.cache import cache_folder, write_atomically
from jaxgpt.data.shards import HEADER_BYTES, TOKEN, Tokens, header, map_file, open_split
from jaxgpt.data.tokenizer import VOCAB_SIZE, encode
from jaxgpt.errors import DataError

# The text of Karpathy's char-rnn (data/tinyshakespeare/input.txt), 1,115,394 bytes.
SHAKESPEARE = Path(__file__).with_name("tiny_shakespeare.txt.gz")
DIGEST_BYTES = slice(64, 96)  # of the header: in our cache the SHA-256 of the tokens; llm.c leaves it empty


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Tokens on the host.

    Attributes:
      name: what the user calls it: a path or a title.
      tokens: uint16 (N,), every id below GPT-2's 50,257; a memmap for a token file; shards.Tokens for a folder.
      fingerprint: SHA-256 of the tokens as little-endian uint16, which does not depend on the kind of file. A folder is
        not read whole: its fingerprint is made of its shards' hashes.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str


def load(data: str = "shakespeare", cache: Path | None = None, split: str = "train") -> Corpus:
    """Open a corpus.

    Args:
      data: a path (a prepared folder; `.bin`: token file; anything else: UTF-8 text), or "shakespeare",
        which is part of the package.
      cache: the folder that keeps the tokens of texts; by default $JAXGPT_CACHE or ~/.cache/jaxgpt.
      split: which split of a prepared folder; files have none.

    Raises:
      DataError: one line that names the file, what is wrong with it, and what to do.
    """
    cache = cache or cache_folder()
    if data == "shakespeare":
        return _text_corpus("tiny Shakespeare", gzip.decompress(SHAKESPEARE.read_bytes()), cache)
    path = Path(data)
    if data and os.path.isdir(path):  # Path.is_dir raises an error for a name that is too long
        tokens = open_split(path, split)
        return Corpus(f"{data} ({split})", tokens, tokens.fingerprint)
    try:
        if path.suffix == ".bin":
            return _check_tokens(str(path), map_file(path))
        return _text_corpus(data, path.read_bytes(), cache)
    except FileNotFoundError:
        raise DataError(
            f"{data}: no such file; --data takes a UTF-8 text, a .bin token file, a prepared folder or shakespeare"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: not a possible file name, such as one with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{data}: {reason}; --data must name a file that can be read") from None


def _text_corpus(name: str, content: bytes, cache: Path) -> Corpus:
    if not content:
        raise DataError(f"{name}: the file is empty; a corpus needs text")
    cached = cache / "tokens" / f"gpt2-{hashlib.sha256(content).hexdigest()}.bin"
    with contextlib.suppress(OSError, DataError), cached.open("rb") as file:  # missing or corrupt: tokenize again
        corpus = _check_tokens(name, map_file(cached))
        if file.read(HEADER_BYTES)[DIGEST_BYTES] == bytes.fromhex(corpus.fingerprint):
            return corpus
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}; "
            "convert it first, for example: iconv -f latin1 -t utf-8"
        ) from None
    tokens = tokenize(text)
    corpus = _check_tokens(name, tokens)
    with contextlib.suppress(OSError):  # a cache that can't be written costs the next start a second, nothing else
        signed_header = bytearray(header(len(tokens)))
        signed_header[DIGEST_BYTES] = bytes.fromhex(corpus.fingerprint)
        write_atomically(cached, signed_header + tokens.tobytes())
    return corpus


def tokenize(text: str, piece_chars: int = 1 << 20) -> np.ndarray:
    """GPT-2 ids of a text, uint16 (N,): those of one `encode` call, on all cores and in bounded memory."""
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        arrays = threads.map(encode, _split_text(text, piece_chars))
        return np.concatenate([np.empty(0, TOKEN), *arrays])


def _split_text(text: str, piece_chars: int) -> Iterator[str]:
    # GPT-2's pattern always makes a word of a lone newline between two visible characters, so a cut behind it changes
    # no token. A cut at a space would: " word" is one word.
    start, newline = 0, re.compile(r"(?<=\S)\n(?=\S)")
    while start < len(text):
        match = newline.search(text, start + piece_chars)
        end = match.end() if match else len(text)
        yield text[start:end]
        start = end


def _check_tokens(name: str, tokens: np.ndarray) -> Corpus:
    """Read every token once, for the fingerprint and for ids that the model has no row for."""
    digest, chunk = hashlib.sha256(), 1 << 24
    for start in range(0, len(tokens), chunk):
        part = np.asarray(tokens[start : start + chunk])
        if part.max() >= VOCAB_SIZE:
            at = int(np.argmax(part >= VOCAB_SIZE))
            raise DataError(
                f"{name}: token {start + at:,} is {part[at]}, beyond GPT-2's vocabulary of {VOCAB_SIZE:,}; "
                "encode the text with GPT-2's tokenizer"
            )
        digest.update(part)
    return Corpus(name, tokens, digest.hexdigest())
