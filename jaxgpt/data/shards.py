"""Token files, and folders of them: a prepared corpus, its splits in shards of llm.c's format, described by meta.json.

FOLDER/meta.json            written last: a folder without it is not whole
FOLDER/train_000000.bin     1,024 bytes of header, 256 int32: 20240520, 1, the number of tokens; then uint16 ids
FOLDER/val_000000.bin
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import json
import os
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.data.tokenizer import RANKS_SHA256
from jaxgpt.errors import DataError

FORMAT, VERSION = "jaxgpt-tokens", 1
META = "meta.json"
TOKENIZER = {"name": "gpt2", "sha256": RANKS_SHA256}
AGAIN = "run the command that prepares it again"

HEADER_BYTES = 1024  # the token file of llm.c: 256 int32, of which the first three are magic, version, token count
HEADER_MAGIC, HEADER_VERSION = 20240520, 1
TOKEN = np.dtype("<u2")


# ---- One file


def header(count: int) -> bytes:
    """The first 1,024 bytes of a file of so many tokens."""
    return struct.pack(f"<3i{HEADER_BYTES - 12}x", HEADER_MAGIC, HEADER_VERSION, count)


def map_file(path: Path) -> np.memmap:
    """Map a token file, uint16 (N,): llm.c's format where its magic number leads, else raw ids.

    Raises:
      DataError: it is truncated, empty, or of another version. That its ids are of the vocabulary is not looked at.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        found = file.read(HEADER_BYTES)
    offset = 0
    # No raw file of GPT-2 ids can begin with the magic number: read as uint16, its first half is 55,432.
    if int.from_bytes(found[:4], "little") == HEADER_MAGIC:
        if size < HEADER_BYTES:
            raise DataError(
                f"{path}: truncated: {size:,} bytes, less than a {HEADER_BYTES:,}-byte header; write it again"
            )
        _, version, count = struct.unpack_from("<3i", found)
        if version != HEADER_VERSION:
            raise DataError(f"{path}: token file version {version}; only {HEADER_VERSION}, uint16 ids, is known")
        if size != HEADER_BYTES + count * TOKEN.itemsize:
            raise DataError(
                f"{path}: truncated or damaged: its header counts {count:,} tokens, "
                f"but {size - HEADER_BYTES:,} bytes follow it, not {count * TOKEN.itemsize:,}; write it again"
            )
        offset = HEADER_BYTES
    elif size % TOKEN.itemsize:
        raise DataError(f"{path}: truncated or no token file: {size:,} bytes are not a whole number of uint16 ids")
    if size == offset:
        raise DataError(f"{path}: the file holds no tokens")
    return np.memmap(path, TOKEN, mode="r", offset=offset)


# ---- A split


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """The shards of a split as one array: what a loader asks of a numpy array, with nothing read that isn't asked for.

    Attributes:
      shards: uint16 arrays, one behind the other; of files, maps.
      fingerprint: of the split, made of the SHA-256 of its files.
    """

    shards: tuple[np.ndarray, ...]
    fingerprint: str = ""

    dtype = TOKEN

    @functools.cached_property
    def ends(self) -> list[int]:
        """Where each shard ends, in tokens of the whole."""
        return list(itertools.accumulate(map(len, self.shards)))

    def __len__(self) -> int:
        return self.ends[-1] if self.shards else 0

    def __getitem__(self, index: slice) -> np.ndarray:
        """Tokens side by side: a view inside of a shard, a copy across the border of two."""
        ends = self.ends
        first, end, step = index.indices(ends[-1] if ends else 0)
        if step != 1:
            raise ValueError(f"tokens are cut one behind the other, not in steps of {step}")
        number = bisect.bisect_right(ends, first)
        if first < end <= ends[number]:
            shard = self.shards[number]
            offset = ends[number] - len(shard)
            return shard[first - offset : end - offset]
        return np.concatenate([np.empty(0, TOKEN), *self.part(first, end).shards])

    def part(self, first: int, end: int) -> "Tokens":
        """Some of them, as Tokens again: views, also across borders."""
        shards = []
        for shard, last in zip(self.shards, self.ends, strict=True):
            offset = last - len(shard)
            piece = shard[max(first - offset, 0) : max(end - offset, 0)]
            shards += [piece] if len(piece) else []
        digest = hashlib.sha256(f"{self.fingerprint}, tokens {first} to {end}".encode())
        return Tokens(tuple(shards), digest.hexdigest())


def open_split(folder: Path, split: str) -> Tokens:
    """Map all shards of a split of a prepared folder.

    The size of each is checked. Its ids and its SHA-256 are not: a folder of 100 GB would take minutes at every start.
    The ids are those of the tokenizer that meta.json names, since they came from it and not from a user; what has
    happened to the files since is for `verify` to find.

    Raises:
      DataError: the folder is not prepared to its end, another tokenizer or version wrote it, it has no such split, or
        a shard is missing or of another size.
    """
    shards = _shards(folder, read_meta(folder), split)
    arrays = [np.asarray(_map_shard(folder / name, count)) for name, count, _ in shards]  # slices of a memmap are slow
    digest = hashlib.sha256("".join(f"{count} {sha256}\n" for _, count, sha256 in shards).encode())
    return Tokens(tuple(arrays), digest.hexdigest())


def verify(folder: Path) -> int:
    """Read all shards of a prepared folder and hold each to its SHA-256; how many there are.

    Raises:
      DataError: as `open_split`; or a shard is not what was written.
    """
    meta, count = read_meta(folder), 0
    for split in meta["splits"]:
        for name, tokens, sha256 in _shards(folder, meta, split, empty=True):
            _map_shard(folder / name, tokens)
            with (folder / name).open("rb") as file:
                found = hashlib.file_digest(file, "sha256").hexdigest()
            if found != sha256:
                raise DataError(f"{folder / name}: damaged: its SHA-256 is {found}, not {sha256}; {AGAIN}")
            count += 1
    return count


def read_meta(folder: Path) -> dict[str, Any]:
    """The meta.json of a prepared folder.

    Raises:
      DataError: there is none, or another program, version or tokenizer wrote it.
    """
    path = folder / META
    try:
        meta = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(
            f"{folder}: a folder without {META}, which is written last: if it is being prepared, wait, or {AGAIN}; "
            "if not, name a file"
        ) from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: can't be read ({error}); {AGAIN}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DataError(f"{path}: its format is not {FORMAT}: no folder of tokens; {AGAIN}, or name a file")
    for name, known in (("version", VERSION), ("tokenizer", TOKENIZER), ("dtype", TOKEN.name)):
        if meta.get(name) != known:
            raise DataError(f"{path}: {name} {meta.get(name)!r:.120}; only {known!r} is known; {AGAIN}")
    if not isinstance(meta.get("splits"), dict):
        raise DataError(f"{path}: damaged: it describes no splits; {AGAIN}")
    return meta


def _shards(folder: Path, meta: dict[str, Any], split: str, empty: bool = False) -> list[tuple[str, int, str]]:
    """File, tokens and SHA-256 of each shard of a split; `empty`: there may be none."""
    try:
        found = [(each["file"], each["tokens"], each["sha256"]) for each in meta["splits"].get(split, {})["shards"]]
        right = all(Path(file).name == file and type(n) is int and len(sha256) == 64 for file, n, sha256 in found)
    except (TypeError, KeyError, AttributeError):
        found, right = [], split not in meta["splits"]
    if not right:
        raise DataError(f"{folder / META}: damaged: its split {split!r} describes no shards; {AGAIN}")
    if not found and not empty:
        there = ", ".join(name for name in meta["splits"] if name != split) or "none"
        raise DataError(
            f"{folder}: there is no split {split!r}, only {there}; prepare it with such a split, or name a file"
        )
    return found


def _map_shard(path: Path, count: int) -> np.memmap:
    """A shard, which must have so many tokens."""
    try:
        found = map_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: missing, though {META} lists it; bring it back, or {AGAIN}") from None
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; the shards of a folder must be readable") from None
    if len(found) != count:
        raise DataError(f"{path}: {len(found):,} tokens, and {META} says {count:,}; bring it back, or {AGAIN}")
    return found


# ---- Writing


def write(folder: Path, split: str, parts: Iterable[np.ndarray], tokens_per_shard: int) -> list[dict[str, Any]]:
    """Write tokens as the shards of a split: FOLDER/SPLIT_000000.bin, ..., the same bytes however the parts are cut.

    A file has its name when it is whole and on the disk. No more is in memory than a part.

    Args:
      parts: the tokens, joined; ids of any integer dtype.
      tokens_per_shard: of each file but the last.

    Returns:
      What meta.json says of each: file, tokens, sha256.

    Raises:
      ValueError: an id is no uint16, or a shard would be too large for llm.c's header.
    """
    if not 1 <= tokens_per_shard < 2**31:
        raise ValueError(f"tokens_per_shard must be from 1 to 2**31 - 1, not {tokens_per_shard}")
    written, pieces = [], _pieces(parts, tokens_per_shard)
    for number, shard in itertools.groupby(pieces, key=lambda piece: piece[0]):
        path = folder / f"{split}_{number:06d}.bin"
        count, sha256 = _write_shard(path, (piece for _, piece in shard))
        written.append({"file": path.name, "tokens": count, "sha256": sha256})
    return written


def _pieces(parts: Iterable[np.ndarray], tokens_per_shard: int) -> Iterable[tuple[int, np.ndarray]]:
    """The parts cut at the borders of shards, each piece with the number of its shard."""
    at = 0
    for part in parts:
        part = np.asarray(part)
        if len(part) and not 0 <= int(part.min()) <= int(part.max()) < 2**16:
            raise ValueError(f"ids from {part.min()} to {part.max()} don't fit into uint16")
        start = 0
        while start < len(part):
            piece = part[start : start + tokens_per_shard - at % tokens_per_shard]
            yield at // tokens_per_shard, piece.astype(TOKEN)
            at, start = at + len(piece), start + len(piece)


def _write_shard(path: Path, pieces: Iterable[np.ndarray]) -> tuple[int, str]:
    """Write one file, and give its tokens and its SHA-256."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with temporary.open("w+b") as file:
            file.write(header(0))  # its count comes last
            count = sum(file.write(piece.tobytes()) // TOKEN.itemsize for piece in pieces)
            file.seek(0)
            file.write(header(count))
            file.seek(0)
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
            os.fsync(file.fileno())  # meta.json, which comes last, must not survive a power cut that this does not
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return count, sha256


def write_meta(folder: Path, splits: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
    """Write meta.json: the folder is whole from then on.

    Args:
      splits: by name: documents, text_bytes (of the text, in UTF-8), and the shards that `write` gave.
      more: what else it shall say, such as the command.
    """
    described = {
        name: {"tokens": sum(shard["tokens"] for shard in split["shards"]), **split} for name, split in splits.items()
    }
    meta = {"format": FORMAT, "version": VERSION, "tokenizer": TOKENIZER, "dtype": TOKEN.name, "splits": described}
    temporary = folder / f".{META}.{os.getpid()}.tmp"
    try:
        with temporary.open("w", encoding="utf-8") as file:
            file.write(json.dumps(meta | more, indent=2) + "\n")
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(folder / META)
    finally:
        temporary.unlink(missing_ok=True)
