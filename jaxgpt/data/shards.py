"""Folders of token files: a prepared corpus, its splits in shards of llm.c's format, described by meta.json.

FOLDER/meta.json            written last: a folder without it is incomplete
FOLDER/train_000000.bin     1,024 bytes of header, 256 int32: 20240520, 1, the number of tokens; then uint16 ids;
                            20240801, 7, the number of tokens; then uint32 ids, for a vocabulary above 65,536
FOLDER/val_000000.bin
"""

import bisect
import dataclasses
import functools
import hashlib
import itertools
import json
import shlex
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.console import plural, program
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import read_kept
from jaxgpt.data.redaction import Erasure, cut, merge, parse_erasures
from jaxgpt.data.token_file import HEADERS, TOKEN, header, map_file
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError
from jaxgpt.files import new_file
from jaxgpt.json_file import read_json

FORMAT, VERSION = "jaxgpt-tokens", 1
META = "meta.json"
META_BYTES = 64 << 20  # some 370,000 shards
ERASURES, PENDING = "erasures", "erasure_pending"  # in meta.json: what was erased, and what a kill has left undone
PREPARE_AGAIN = "run the command that prepares it again"


# ---- A split


@dataclasses.dataclass(frozen=True, eq=False)
class Tokens:
    """A split's shards as one array: len and slices, like a numpy array; only the slices that are taken are read.

    Attributes:
      shards: arrays of one dtype, in their order; memory maps for files.
      fingerprint: of the split, made of its files' SHA-256 and of what was erased.
      erasures: what was erased of it, in that order.
    """

    shards: tuple[np.ndarray, ...]
    fingerprint: str = ""
    erasures: tuple[Erasure, ...] = ()

    @property
    def dtype(self) -> np.dtype:
        return self.shards[0].dtype if self.shards else TOKEN

    @functools.cached_property
    def ends(self) -> list[int]:
        """Where each shard ends, in tokens of the split."""
        return list(itertools.accumulate(map(len, self.shards)))

    @functools.cached_property
    def erased(self) -> np.ndarray:
        """The ranges of tokens that are no targets, since end tokens stand for what was erased, int64 (R, 2)."""
        return merge(pair for each in self.erasures for pair in each.ranges)

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
        return np.concatenate([np.empty(0, self.dtype), *self.part(first, end).shards])

    def part(self, first: int, end: int) -> "Tokens":
        """The tokens from `first` to `end` as Tokens: views, also across borders."""
        shards = []
        for shard, last in zip(self.shards, self.ends, strict=True):
            offset = last - len(shard)
            piece = shard[max(first - offset, 0) : max(end - offset, 0)]
            shards += [piece] if len(piece) else []
        names = (_name_part(each.fingerprint, first, end) for each in (self, *self.erasures))
        ranges = (cut(each.ranges, first, end) for each in self.erasures)
        return Tokens(tuple(shards), next(names), tuple(map(Erasure, names, ranges)))


def _name_part(fingerprint: str, first: int, end: int) -> str:
    return hashlib.sha256(f"{fingerprint}, tokens {first} to {end}".encode()).hexdigest()


def open_split(folder: Path, split: str, tokenizer: Tokenizer = GPT2_TOKENIZER) -> Tokens:
    """Map all shards of a prepared folder's split.

    Each shard's size is checked. Its ids and its SHA-256 are not: a folder of 100 GB would take minutes at every start.
    The ids are those of the tokenizer that meta.json names, since they came from it and not from a user; `verify`
    finds what has happened to the files since.

    Raises:
      DataError: the folder is incomplete, another version wrote it, it has another tokenizer or no such split, or a
        shard is missing or of another size.
    """
    meta = read_meta(folder)
    if PENDING in meta:
        erase = f"{program('erase')} {shlex.quote(str(folder))} --apply"
        raise DataError(f"{folder}: an erasure was interrupted, and some of its tokens are still there; run: {erase}")
    _require_tokenizer(folder, meta, tokenizer)
    shards, dtype = shard_entries(folder, meta, split), tokenizer.dtype
    arrays = [np.asarray(_map_shard(folder / name, n, dtype)) for name, n, _ in shards]  # slices of a memmap are slow
    count = sum(n for _, n, _ in shards)
    erasures = parse_erasures(str(folder / META), meta.get(ERASURES, []), split, count)
    lines = [f"{count} {sha256}\n" for _, count, sha256 in shards]
    lines += [f"erased {first} {end}\n" for first, end in merge(pair for each in erasures for pair in each.ranges)]
    return Tokens(tuple(arrays), hashlib.sha256("".join(lines).encode()).hexdigest(), erasures)


def verify(folder: Path) -> int:
    """Read all shards of a prepared folder and compare each with its SHA-256; returns their number.

    Raises:
      DataError: as `open_split`; or a shard is not what was written.
    """
    meta, count = read_meta(folder), 0
    for split in meta["splits"]:
        for name, tokens, sha256 in shard_entries(folder, meta, split, empty=True):
            _map_shard(folder / name, tokens, np.dtype(meta["dtype"]))
            with (folder / name).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            if digest != sha256:
                raise DataError(f"{folder / name}: corrupt: its SHA-256 is {digest}, not {sha256}; {PREPARE_AGAIN}")
            count += 1
    return count


def read_meta(folder: Path) -> dict[str, Any]:
    """Read a prepared folder's meta.json.

    Raises:
      DataError: there is none, or another program or version wrote it.
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
    for name, known in (("version", [VERSION]), ("dtype", [each.name for each in HEADERS])):
        if meta.get(name) not in known:
            choices = " or ".join(map(repr, known))
            raise DataError(f"{path}: {name} {meta.get(name)!r:.120}; only {choices} is known; {PREPARE_AGAIN}")
    tokenizer = meta.get("tokenizer")
    if not isinstance(tokenizer, dict) or not all(type(tokenizer.get(name)) is str for name in ("name", "sha256")):
        raise DataError(f"{path}: corrupt: it describes no tokenizer; {PREPARE_AGAIN}")
    if not isinstance(meta.get("splits"), dict):
        raise DataError(f"{path}: corrupt: it describes no splits; {PREPARE_AGAIN}")
    return meta


def read_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a prepared folder, which has a copy of one that is not part of the package."""
    return read_kept(folder, read_meta(folder)["tokenizer"]["sha256"])


def _require_tokenizer(folder: Path, meta: dict[str, Any], tokenizer: Tokenizer) -> None:
    name, sha256 = (meta["tokenizer"][name] for name in ("name", "sha256"))
    if sha256 != tokenizer.text_sha256:
        is_named = name in ("gpt2", "bytes", "chars")
        remedy = f"train with --tokenizer {name if is_named else shlex.quote(str(folder))}, or prepare it with this one"
        shown = f"{name} ({sha256:.12})", f"{tokenizer.name} ({tokenizer.text_sha256:.12})"
        raise DataError(f"{folder}: prepared with the tokenizer {shown[0]:.60}, and this is {shown[1]}; {remedy}")
    if meta["dtype"] != tokenizer.dtype.name:
        size = f"a vocabulary of {tokenizer.vocab_size:,}, which has {tokenizer.dtype.name} ids"
        raise DataError(f"{folder / META}: corrupt: dtype {meta['dtype']!r} for {size}; {PREPARE_AGAIN}")


def shard_entries(folder: Path, meta: dict[str, Any], split: str, empty: bool = False) -> list[tuple[str, int, str]]:
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


def _map_shard(path: Path, count: int, dtype: np.dtype) -> np.memmap:
    """Map a shard, which must have `count` tokens."""
    try:
        shard = map_file(path, dtype)
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


def write(
    folder: Path, split: str, parts: Iterable[np.ndarray], tokens_per_shard: int, dtype: np.dtype = TOKEN
) -> list[dict[str, Any]]:
    """Write tokens as a split's shards: FOLDER/SPLIT_000000.bin, ..., the same bytes however the parts are cut.

    A file gets its name when it is complete and on the disk. No more than a part is in memory.

    Args:
      parts: the split's tokens in pieces, ids of any integer dtype.
      tokens_per_shard: tokens in each file but the last.
      dtype: of the ids in the files.

    Returns:
      Each shard's entry in meta.json: file, tokens, sha256.

    Raises:
      ValueError: an id does not fit into the dtype, or a shard would be too large for llm.c's header.
    """
    if not 1 <= tokens_per_shard < 2**31:
        raise ValueError(f"tokens_per_shard must be from 1 to 2**31 - 1, not {tokens_per_shard}")
    written, pieces = [], _pieces(parts, tokens_per_shard, dtype)
    for number, shard in itertools.groupby(pieces, key=lambda piece: piece[0]):
        path = folder / f"{split}_{number:06d}.bin"
        count, sha256 = _write_shard(path, (piece for _, piece in shard), dtype)
        written.append({"file": path.name, "tokens": count, "sha256": sha256})
    return written


def _pieces(parts: Iterable[np.ndarray], tokens_per_shard: int, dtype: np.dtype) -> Iterable[tuple[int, np.ndarray]]:
    """Cut the parts at the borders of shards; each piece comes with its shard's number."""
    total = 0
    for part in parts:
        part = np.asarray(part)
        if len(part) and not 0 <= int(part.min()) <= int(part.max()) <= np.iinfo(dtype).max:
            raise ValueError(f"ids from {part.min()} to {part.max()} don't fit into {dtype.name}")
        start = 0
        while start < len(part):
            piece = part[start : start + tokens_per_shard - total % tokens_per_shard]
            yield total // tokens_per_shard, piece.astype(dtype)
            total, start = total + len(piece), start + len(piece)


def _write_shard(path: Path, pieces: Iterable[np.ndarray], dtype: np.dtype) -> tuple[int, str]:
    """Write one file; returns its number of tokens and its SHA-256."""
    with new_file(path) as temporary, temporary.open("w+b") as file:
        file.write(header(0, dtype))  # its count comes last
        count = sum(file.write(piece.tobytes()) // dtype.itemsize for piece in pieces)
        file.seek(0)
        file.write(header(count, dtype))
        file.seek(0)
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    return count, sha256


def write_meta(
    folder: Path, splits: Mapping[str, Mapping[str, Any]], tokenizer: Tokenizer = GPT2_TOKENIZER, **more: Any
) -> None:
    """Write meta.json, which makes the folder complete.

    Args:
      splits: by name: documents, text_bytes (the text's length in UTF-8), and the shards that `write` returned.
      more: further entries, such as the command.
    """
    described = {
        name: {"tokens": sum(shard["tokens"] for shard in split["shards"]), **split} for name, split in splits.items()
    }
    named = {"name": tokenizer.name, "sha256": tokenizer.sha256}
    facts = {"format": FORMAT, "version": VERSION, "tokenizer": named, "dtype": tokenizer.dtype.name}
    meta = facts | {"splits": described}
    with new_file(folder / META) as temporary:
        temporary.write_text(json.dumps(meta | more, indent=2) + "\n", encoding="utf-8")
