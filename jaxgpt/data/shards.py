"""Token files, and folders of them: a prepared corpus, its splits in shards of llm.c's format, described by meta.json.

FOLDER/meta.json            written last: a folder without it is incomplete
FOLDER/train_000000.bin     1,024 bytes of header, 256 int32: 20240520, 1, the number of tokens; then uint16 ids
FOLDER/val_000000.bin
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import json
import shlex
import struct
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.console import plural, program
from jaxgpt.data.tokenizer import RANKS_SHA256
from jaxgpt.errors import DataError
from jaxgpt.files import new_file
from jaxgpt.json_file import read_json

FORMAT, VERSION = "jaxgpt-tokens", 1
META = "meta.json"
META_BYTES = 64 << 20  # some 370,000 shards
TOKENIZER = {"name": "gpt2", "sha256": RANKS_SHA256}
PREPARE_AGAIN = "run the command that prepares it again"

HEADER_BYTES = 1024  # the token file of llm.c: 256 int32, of which the first three are magic, version, token count
HEADER_MAGIC, HEADER_VERSION = 20240520, 1
TOKEN = np.dtype("<u2")


# ---- One file


def header(count: int) -> bytes:
    """The first 1,024 bytes of a file of `count` tokens."""
    return struct.pack(f"<3i{HEADER_BYTES - 12}x", HEADER_MAGIC, HEADER_VERSION, count)


def map_file(path: Path) -> np.memmap:
    """Map a token file, uint16 (N,): llm.c's format where its magic number leads, else raw ids.

    Raises:
      DataError: it is truncated, empty, or of another version. Whether its ids are GPT-2's is not checked.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    offset = 0
    # No raw file of GPT-2 ids can begin with the magic number: read as uint16, its first half is 55,432.
    if int.from_bytes(head[:4], "little") == HEADER_MAGIC:
        if size < HEADER_BYTES:
            raise DataError(
                f"{path}: truncated: {plural(size, 'byte')}, less than a {HEADER_BYTES:,}-byte header; write it again"
            )
        _, version, count = struct.unpack_from("<3i", head)
        if version != HEADER_VERSION:
            raise DataError(f"{path}: token file version {version}; only {HEADER_VERSION}, uint16 ids, is known")
        if size != HEADER_BYTES + count * TOKEN.itemsize:
            raise DataError(
                f"{path}: truncated or corrupt: its header counts {plural(count, 'token')}, "
                f"but {plural(size - HEADER_BYTES, 'byte')} follow it, not {count * TOKEN.itemsize:,}; write it again"
            )
        offset = HEADER_BYTES
    elif size % TOKEN.itemsize:
        raise DataError(f"{path}: truncated or no token file: {plural(size, 'byte')} for ids of two bytes")
    if size == offset:
        raise DataError(f"{path}: the file holds no tokens")
    return np.memmap(path, TOKEN, mode="r", offset=offset)


# ---- A split


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """A split's shards as one array: len and slices, like a numpy array; only the slices that are taken are read.

    Attributes:
      shards: uint16 arrays, in their order; memory maps for files.
      fingerprint: of the split, made of its files' SHA-256.
    """

    shards: tuple[np.ndarray, ...]
    fingerprint: str = ""

    dtype = TOKEN

    @functools.cached_property
    def ends(self) -> list[int]:
        """Where each shard ends, in tokens of the split."""
        return list(itertools.accumulate(map(len, self.shards)))

    def __len__(self) -> int:
        return self.ends[-1] if self.shards else 0

    def __getitem__(self, index: slice) -> np.ndarray:
        """Contiguous tokens: a view within a shard, a copy across the border of two."""
        ends = self.ends
        first, end, step = index.indices(ends[-1] if ends else 0)
        if step != 1:
            raise ValueError(f"only contiguous tokens can be cut, not every {step}")
        number = bisect.bisect_right(ends, first)
        if first < end <= ends[number]:
            shard = self.shards[number]
            offset = ends[number] - len(shard)
            return shard[first - offset : end - offset]
        return np.concatenate([np.empty(0, TOKEN), *self.part(first, end).shards])

    def part(self, first: int, end: int) -> "Tokens":
        """The tokens from `first` to `end` as Tokens: views, also across borders."""
        shards = []
        for shard, last in zip(self.shards, self.ends, strict=True):
            offset = last - len(shard)
            piece = shard[max(first - offset, 0) : max(end - offset, 0)]
            shards += [piece] if len(piece) else []
        digest = hashlib.sha256(f"{self.fingerprint}, tokens {first} to {end}".encode())
        return Tokens(tuple(shards), digest.hexdigest())


def open_split(folder: Path, split: str) -> Tokens:
    """Map all shards of a prepared folder's split.

    Each shard's size is checked. Its ids and its SHA-256 are not: a folder of 100 GB would take minutes at every start.
    The ids are those of the tokenizer that meta.json names, since they came from it and not from a user; `verify`
    finds what has happened to the files since.

    Raises:
      DataError: the folder is incomplete, another tokenizer or version wrote it, it has no such split, or a shard is
        missing or of another size.
    """
    shards = _shard_entries(folder, read_meta(folder), split)
    arrays = [np.asarray(_map_shard(folder / name, count)) for name, count, _ in shards]  # slices of a memmap are slow
    digest = hashlib.sha256("".join(f"{count} {sha256}\n" for _, count, sha256 in shards).encode())
    return Tokens(tuple(arrays), digest.hexdigest())


def verify(folder: Path) -> int:
    """Read all shards of a prepared folder and compare each with its SHA-256; returns their number.

    Raises:
      DataError: as `open_split`; or a shard is not what was written.
    """
    meta, count = read_meta(folder), 0
    for split in meta["splits"]:
        for name, tokens, sha256 in _shard_entries(folder, meta, split, empty=True):
            _map_shard(folder / name, tokens)
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                raise DataError(f"{folder / name}: corrupt: its SHA-256 is {digest}, not {sha256}; {PREPARE_AGAIN}")
            count += 1
    return count


def read_meta(folder: Path) -> dict[str, Any]:
    """Read a prepared folder's meta.json.

    Raises:
      DataError: there is none, or another program, version or tokenizer wrote it.
    """
    path = folder / META
    if (folder / "checkpoints").is_dir():
        raise DataError(f"{folder}: a run, not a prepared folder; name one that {program('prepare')} made")
    try:
        meta = read_json(path, META_BYTES)
    except FileNotFoundError:
        raise DataError(
            f"{folder}: a folder without {META}, which is written last: if it is being prepared, wait, or "
            f"{PREPARE_AGAIN}; if it has texts: {program('prepare')} {shlex.quote(str(folder))} --out data/NAME"
        ) from None
    except ValueError as error:
        raise DataError(f"{path}: can't be read ({error}); {PREPARE_AGAIN}") from None
    if not isinstance(meta, dict) or meta.get("format") != FORMAT:
        raise DataError(f"{path}: its format is not {FORMAT}: no folder of tokens; {PREPARE_AGAIN}, or name a file")
    for name, known in (("version", VERSION), ("tokenizer", TOKENIZER), ("dtype", TOKEN.name)):
        if meta.get(name) != known:
            raise DataError(f"{path}: {name} {meta.get(name)!r:.120}; only {known!r} is known; {PREPARE_AGAIN}")
    if not isinstance(meta.get("splits"), dict):
        raise DataError(f"{path}: corrupt: it describes no splits; {PREPARE_AGAIN}")
    return meta


def _shard_entries(folder: Path, meta: dict[str, Any], split: str, empty: bool = False) -> list[tuple[str, int, str]]:
    """File, tokens and SHA-256 of each shard of a split; `empty`: there may be none."""
    try:
        entries = [(each["file"], each["tokens"], each["sha256"]) for each in meta["splits"].get(split, {})["shards"]]
        valid = all(Path(file).name == file and type(n) is int and len(sha256) == 64 for file, n, sha256 in entries)
    except (TypeError, KeyError, AttributeError):
        entries, valid = [], split not in meta["splits"]
    if not valid:
        raise DataError(f"{folder / META}: corrupt: its split {split!r} describes no shards; {PREPARE_AGAIN}")
    if not entries and not empty:
        others = ", ".join(name for name in meta["splits"] if name != split) or "none"
        raise DataError(
            f"{folder}: there is no split {split!r}, only {others}; prepare it with such a split, or name a file"
        )
    return entries


def _map_shard(path: Path, count: int) -> np.memmap:
    """Map a shard, which must have `count` tokens."""
    try:
        shard = map_file(path)
    except FileNotFoundError:
        raise DataError(f"{path}: missing, though {META} lists it; bring it back, or {PREPARE_AGAIN}") from None
    except (OSError, ValueError) as error:  # ValueError: no file can have such a name
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path}: {reason}; the shards of a folder must be readable") from None
    if len(shard) != count:
        raise DataError(
            f"{path}: {plural(len(shard), 'token')}, and {META} says {count:,}; bring it back, or {PREPARE_AGAIN}"
        )
    return shard


# ---- Writing


def write(folder: Path, split: str, parts: Iterable[np.ndarray], tokens_per_shard: int) -> list[dict[str, Any]]:
    """Write tokens as a split's shards: FOLDER/SPLIT_000000.bin, ..., the same bytes however the parts are cut.

    A file gets its name when it is complete and on the disk. No more than a part is in memory.

    Args:
      parts: the split's tokens in pieces, ids of any integer dtype.
      tokens_per_shard: tokens in each file but the last.

    Returns:
      Each shard's entry in meta.json: file, tokens, sha256.

    Raises:
      ValueError: an id does not fit into uint16, or a shard would be too large for llm.c's header.
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
    """Cut the parts at the borders of shards; each piece comes with its shard's number."""
    total = 0
    for part in parts:
        part = np.asarray(part)
        if len(part) and not 0 <= int(part.min()) <= int(part.max()) < 2**16:
            raise ValueError(f"ids from {part.min()} to {part.max()} don't fit into uint16")
        start = 0
        while start < len(part):
            piece = part[start : start + tokens_per_shard - total % tokens_per_shard]
            yield total // tokens_per_shard, piece.astype(TOKEN)
            total, start = total + len(piece), start + len(piece)


def _write_shard(path: Path, pieces: Iterable[np.ndarray]) -> tuple[int, str]:
    """Write one file; returns its number of tokens and its SHA-256."""
    with new_file(path) as temporary, temporary.open("w+b") as file:
        file.write(header(0))  # its count comes last
        count = sum(file.write(piece.tobytes()) // TOKEN.itemsize for piece in pieces)
        file.seek(0)
        file.write(header(count))
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return count, sha256


def write_meta(folder: Path, splits: Mapping[str, Mapping[str, Any]], **more: Any) -> None:
    """Write meta.json, which makes the folder complete.

    Args:
      splits: by name: documents, text_bytes (the text's length in UTF-8), and the shards that `write` returned.
      more: further entries, such as the command.
    """
    described = {
        name: {"tokens": sum(shard["tokens"] for shard in split["shards"]), **split} for name, split in splits.items()
    }
    meta = {"format": FORMAT, "version": VERSION, "tokenizer": TOKENIZER, "dtype": TOKEN.name, "splits": described}
    with new_file(folder / META) as temporary:
        temporary.write_text(json.dumps(meta | more, indent=2) + "\n", encoding="utf-8")
