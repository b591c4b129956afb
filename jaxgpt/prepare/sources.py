"""The input of a preparation: files, folders, datasets and standard input, in pieces that depend on it alone."""

import fnmatch
import itertools
import json
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaxgpt.errors import DataError, UsageError

TEXT, TABLES = (".txt", ".md", ".rst"), {".csv": ",", ".tsv": "\t"}
KNOWN = (*TEXT, ".jsonl", *TABLES, ".parquet", ".warc", ".wet")  # taken from folders; with .gz or .zst too
PACKED = (".gz", ".zst")
CUT_BYTES = 4 << 20  # a plain text file is cut into documents at the line ends behind multiples of this
PIECE_BYTES, PIECES = 4 << 20, (256, 64 << 20, 900)  # the input of a task, fixed by the input: see `_limit`


class Unit(NamedTuple):
    """What one reader reads: a file, or a part of one, or of a dataset.

    Attributes:
      name: a path, or hf://OWNER/NAME[/CONFIG].
      kind: text, jsonl, csv, tsv, parquet, warc or hf.
      start, end: bytes of a text or JSONL file that is not packed: the lines that begin there; row groups of Parquet;
        of a dataset, the start-th of `end` shards.
      size: about how many bytes that is.
    """

    name: str
    kind: str
    start: int
    end: int
    size: int


def plan(inputs: Iterable[str], patterns: Iterable[str] = ()) -> list[list[Unit]]:
    """The input as pieces, one a task, in the order of the command line and, within folders, of the names.

    Args:
      inputs: files, folders, hf://OWNER/NAME[/CONFIG].
      patterns: which files are taken from folders, such as *.py; by default those of a known kind.

    Raises:
      UsageError: one is not there, or has nothing to read.
    """
    units = [unit for name in inputs for unit in _units(name, tuple(patterns))]
    for unit in units:
        try:
            unit.name.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{unit.name!r}: the name of this file is not UTF-8; rename it") from None
    limit = _limit(sum(unit.size for unit in units))
    while len(pieces := _grouped(units, limit)) > PIECES[-1]:
        limit *= 2
    return pieces


def _grouped(units: list[Unit], limit: int) -> list[list[Unit]]:
    pieces, filled = [[]], 0
    for unit in units:
        if pieces[-1] and filled + unit.size > limit:
            pieces.append([])
            filled = 0
        pieces[-1].append(unit)
        filled += unit.size
    return pieces


def _limit(size: int) -> int:
    """Bytes of a piece: a task costs some hundredths of a second, and what is killed loses no more than its task.

    So pieces are of 4 MiB; where that would be above 256, larger, up to 64 MiB; and never above 900: stages that look
    for copies have a file of each open.
    """
    some, largest, most = PIECES
    return max(PIECE_BYTES, min(-(-size // some), largest), -(-size // most))


def _units(name: str, patterns: tuple[str, ...]) -> Iterator[Unit]:
    if name.startswith("hf://"):
        shards = dataset(name).num_shards
        yield from (Unit(name, "hf", shard, shards, PIECE_BYTES) for shard in range(shards))
        return
    path = Path(name)
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file())
        taken = [file for file in files if _matches(file, patterns)]
        if not taken:
            what = " ".join(patterns) if patterns else ", ".join(KNOWN)
            raise UsageError(f"{name}: {len(files):,} files, and none is {what}; name others with --files")
    elif path.is_file():
        taken = [path]
    else:
        raise UsageError(f"{name}: no such file or folder; give text, JSONL, CSV, Parquet, WARC, hf://OWNER/NAME or -")
    for file in taken:
        what, size = kind(file), file.stat().st_size
        if what in ("text", "jsonl") and file.suffix.lower() not in PACKED:
            cuts = [*range(0, size, CUT_BYTES if what == "text" else PIECE_BYTES), size] if size else [0, 0]
            yield from (Unit(str(file), what, *ends, ends[1] - ends[0]) for ends in itertools.pairwise(cuts))
        elif what == "parquet":
            groups = _row_groups(file)
            yield from (Unit(str(file), what, group, group + 1, size // groups) for group in range(groups))
        else:
            yield Unit(str(file), what, 0, size, size)


def _matches(file: Path, patterns: tuple[str, ...]) -> bool:
    if patterns:
        return any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)
    return file.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(KNOWN)


def kind(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz").removesuffix(".zst")
    kinds = {".jsonl": "jsonl", ".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".warc": "warc", ".wet": "warc"}
    return kinds.get(Path(name).suffix, "text")


def _row_groups(file: Path) -> int:
    from pyarrow import ArrowException
    from pyarrow.parquet import ParquetFile

    try:
        with ParquetFile(file) as parquet:
            return max(1, parquet.num_row_groups)
    except (ArrowException, OSError):
        return 1  # the reader tells what is wrong with it


def dataset(name: str) -> Any:
    """The training split of a dataset of the Hugging Face Hub as a stream."""
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{name} needs the library datasets: pip install -r requirements-data.txt") from None
    owner, _, rest = name.removeprefix("hf://").partition("/")
    title, _, config = rest.partition("/")
    try:
        return datasets.load_dataset(f"{owner}/{title}", config or None, split="train", streaming=True)
    except Exception as error:  # of many kinds: no such dataset, no network, no rights
        raise DataError(f"{name}: {' '.join(str(error).split())[:300]}; check the name and the network") from None


def spool(folder: Path, text: IO[bytes] | None = None) -> Path:
    """Keep what comes on standard input in a file: JSONL if its first line is an object, else text; once."""
    for name in ("stdin.jsonl", "stdin.txt"):
        if (folder / name).exists():
            return folder / name
    if text is None and sys.stdin is None:
        raise UsageError("-: standard input is closed; give a file, or pipe text in")
    source = text or sys.stdin.buffer
    temporary = folder / "stdin.tmp"
    with temporary.open("wb") as file:
        first = source.readline(64 << 20)
        file.write(first)
        while chunk := source.read(1 << 20):
            file.write(chunk)
    path = folder / ("stdin.jsonl" if _is_object(first) else "stdin.txt")
    return temporary.replace(path)


def _is_object(line: bytes) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except (ValueError, RecursionError):
        return False
