"""Where tokens come from: a text file, a token file, a prepared folder, or tiny Shakespeare."""

import concurrent.futures
import contextlib
import dataclasses
import gzip
import hashlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from jaxgpt.data.cache import cache_folder
from jaxgpt.data.shards import HEADER_BYTES, TOKEN, Tokens, header, map_file, open_split
from jaxgpt.data.tokenizer import VOCAB_SIZE, gpt2
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
      fingerprint: SHA-256 of the tokens as little-endian uint16, the same from whatever kind of file they came; of a
        folder, which is not read whole, that of its shards' hashes.
    """

    name: str
    tokens: np.ndarray | Tokens
    fingerprint: str


def load(data: str = "shakespeare", cache: Path | None = None, split: str = "train") -> Corpus:
    """Open a corpus.

    Args:
      data: a path (a prepared folder; `.bin`: token file; anything else: UTF-8 text), or "shakespeare",
        which is part of the package.
      cache: where the tokens of texts are kept; by default $JAXGPT_CACHE or ~/.cache/jaxgpt.
      split: of a folder; all else has none.

    Raises:
      DataError: with one line that says what is wrong with which file, and what to do.
    """
    cache = cache or cache_folder()
    if data == "shakespeare":
        return _text("tiny Shakespeare", gzip.decompress(SHAKESPEARE.read_bytes()), cache)
    path = Path(data)
    if data and os.path.isdir(path):  # Path.is_dir raises an error for a name that is too long
        tokens = open_split(path, split)
        return Corpus(f"{data} ({split})", tokens, tokens.fingerprint)
    try:
        return _token_file(path) if path.suffix == ".bin" else _text(data, path.read_bytes(), cache)
    except FileNotFoundError:
        raise DataError(
            f"{data}: no such file; --data takes a UTF-8 text, a .bin token file, a prepared folder or shakespeare"
        ) from None
    except (OSError, ValueError) as error:  # ValueError: no name of a file, such as one with a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{data}: {reason}; --data must name a file that can be read") from None


# ---- Text ----------------------------------------------------------------------------------------------------------


def _text(name: str, content: bytes, cache: Path) -> Corpus:
    if not content:
        raise DataError(f"{name}: the file is empty; a corpus needs text")
    cached = cache / "tokens" / f"gpt2-{hashlib.sha256(content).hexdigest()}.bin"
    with contextlib.suppress(OSError, DataError), cached.open("rb") as file:  # not there, or damaged: make it anew
        found = _checked(name, map_file(cached))
        if file.read(HEADER_BYTES)[DIGEST_BYTES] == bytes.fromhex(found.fingerprint):
            return found
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(
            f"{name}: not UTF-8: byte 0x{content[error.start]:02x} at offset {error.start:,}; "
            "convert it first, for example: iconv -f latin1 -t utf-8"
        ) from None
    tokens = tokenize(text)
    found = _checked(name, tokens)
    with contextlib.suppress(OSError):  # a cache that can't be written costs the next start a second, nothing else
        first = bytearray(header(len(tokens)))
        first[DIGEST_BYTES] = bytes.fromhex(found.fingerprint)
        _write_whole(cached, first + tokens.tobytes())
    return found


def tokenize(text: str, piece_chars: int = 1 << 20) -> np.ndarray:
    """GPT-2 ids of a text, uint16 (N,): those of one `encode_ordinary` call, on all cores and in bounded memory."""
    encode = gpt2().encode_ordinary
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
        arrays = threads.map(lambda piece: np.array(encode(piece), TOKEN), _pieces(text, piece_chars))
        return np.concatenate([np.empty(0, TOKEN), *arrays])


def _pieces(text: str, piece_chars: int) -> Iterator[str]:
    # A lone newline between two visible characters is always a word of its own in GPT-2's pattern, so that a cut behind
    # it changes no token. At spaces it would: " word" is one.
    start, cut = 0, re.compile(r"(?<=\S)\n(?=\S)")
    while start < len(text):
        found = cut.search(text, start + piece_chars)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end


# ---- Token files ---------------------------------------------------------------------------------------------------


def _token_file(path: Path) -> Corpus:
    return _checked(str(path), map_file(path))


def _checked(name: str, tokens: np.ndarray) -> Corpus:
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


def _write_whole(path: Path, content: bytes) -> None:
    """Write a file such that nobody ever sees a part of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{socket.gethostname()}-{os.getpid()}.tmp")  # hosts may share it
    try:
        temporary.write_bytes(content)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
