"""Erase tokens of a prepared folder: end tokens take their places, and meta.json tells where and what was before.

meta.json is written first, with what is to be done: from then on nobody can open the folder. Then come the shards, each
in whole or not at all, and at last meta.json with the result. After a kill `complete` does what is left.
"""

import datetime
import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.data import shards
from jaxgpt.data.redaction import cut, merge, parse_erasures
from jaxgpt.data.token_file import HEADER_BYTES
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError
from jaxgpt.files import new_file
from jaxgpt.progress_bar import stage

COUNTS = ("documents", "text_bytes")  # of a split, in meta.json
PIECE = 1 << 22  # tokens that are copied at a time


def begin(folder: Path, ranges: Mapping[str, np.ndarray], documents: Mapping[str, int], tokenizer: Tokenizer) -> None:
    """Write into meta.json what is to be erased.

    Args:
      ranges: by split, int64 (R, 2), tokens of the split.
      documents: by split, how many whole documents these are.
    """
    meta, splits = shards.read_meta(folder), {}
    for split, pairs in ranges.items():
        tokens = shards.open_split(folder, split, tokenizer)
        _require_counts(folder, meta["splits"][split])
        lengths = tokenizer.byte_lengths
        size = sum(int(lengths[tokens[first:end]].sum()) for first, end in pairs.tolist())
        counts = {"documents": documents.get(split, 0), "text_bytes": size}
        splits[split] = {"fingerprint": tokens.fingerprint, "ranges": merge(pairs).tolist(), **counts}
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    _write_meta(folder, meta | {shards.PENDING: {"time": time, "splits": splits}})


def pending(folder: Path) -> dict[str, np.ndarray]:
    """The ranges that an erasure shall erase which has begun, by split; none if there is no such erasure.

    Raises:
      DataError: meta.json is corrupt.
    """
    meta = shards.read_meta(folder)
    if shards.PENDING not in meta:
        return {}
    entry = meta[shards.PENDING]
    if not isinstance(entry, dict) or not isinstance(entry.get("splits"), dict) or not entry["splits"]:
        raise DataError(f"{folder / shards.META}: corrupt: its erasure has no splits; bring back a copy of it")
    found = {}
    for split in entry["splits"]:
        count = sum(n for _, n, _ in shards.shard_entries(folder, meta, split))
        (each,) = parse_erasures(str(folder / shards.META), [entry], split, count)
        for described in (entry["splits"][split], meta["splits"][split]):
            _require_counts(folder, described)
        found[split] = each.ranges
    return found


def _require_counts(folder: Path, described: Mapping[str, Any]) -> None:
    for name in COUNTS:
        if type(described.get(name, 0)) is not int:
            raise DataError(f"{folder / shards.META}: corrupt: its {name!r} is no number; bring back a copy of it")


def complete(folder: Path, tokenizer: Tokenizer) -> None:
    """Put end tokens where `begin` has said, and write so into meta.json; nothing if no erasure has begun."""
    ranges = pending(folder)
    if not ranges:
        return
    meta, end = shards.read_meta(folder), tokenizer.require_end("erased tokens")
    entry = meta.pop(shards.PENDING)
    for split, pairs in ranges.items():
        first, described = 0, meta["splits"][split]
        with stage(f"erasing tokens of {split}"):
            for shard in described["shards"]:
                inside = cut(pairs, first, first + shard["tokens"])
                if len(inside):
                    shard["sha256"] = _overwrite(folder / shard["file"], inside, end, tokenizer.dtype)
                first += shard["tokens"]
        for name in COUNTS:
            described[name] = max(0, described.get(name, 0) - entry["splits"][split].get(name, 0))
    meta[shards.ERASURES] = [*meta.get(shards.ERASURES, []), entry]
    _write_meta(folder, meta)


def _overwrite(path: Path, ranges: np.ndarray, end: int, dtype: np.dtype) -> str:
    """Write a shard again with the end token in these ranges; its SHA-256."""
    digest, first, size = hashlib.sha256(), 0, dtype.itemsize
    with path.open("rb") as old, new_file(path) as temporary, temporary.open("wb") as new:
        header = old.read(HEADER_BYTES)
        digest.update(header)
        new.write(header)
        while piece := old.read(PIECE * size):
            tokens = np.frombuffer(piece, dtype).copy()
            for start, stop in cut(ranges, first, first + len(tokens)).tolist():
                tokens[start:stop] = end
            digest.update(tokens)
            new.write(tokens)
            first += len(tokens)
        new.flush()
        shutil.copymode(path, temporary)
    return digest.hexdigest()


def _write_meta(folder: Path, meta: dict[str, Any]) -> None:
    path = folder / shards.META
    with new_file(path) as temporary:
        temporary.write_text(json.dumps(meta, indent=2) + "\n", encoding="utf-8")
        shutil.copymode(path, temporary)
