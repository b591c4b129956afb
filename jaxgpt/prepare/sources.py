"""The input of a preparation: files, folders, datasets and standard input, in pieces that depend only on the input."""

import collections
import contextlib
import fnmatch
import itertools
import shutil
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from jaxgpt.console import plural
from jaxgpt.data.documents import require_text_format
from jaxgpt.data.records import JSON_LINE_BYTES, JSON_LINES, RecordError, parse_record
from jaxgpt.errors import DataError, UsageError
from jaxgpt.files import new_file
from jaxgpt.prepare.parquet import open_parquet

TEXTS, TABLES = (".txt", ".md", ".rst"), {".csv": ",", ".tsv": "\t"}
KNOWN_SUFFIXES = (*TEXTS, *JSON_LINES, *TABLES, ".parquet", ".warc", ".wet")  # taken from folders, with .gz or .zst too
COMPRESSED = (".gz", ".zst")
CUT_BYTES = 4 << 20  # a plain text file is cut into documents at the line ends behind multiples of this
CHUNK_BYTES = 1 << 20
PIECE_BYTES, PIECES = 4 << 20, (256, 64 << 20, 900)  # the input of a task, fixed by the input: see `_limit`


class Unit(NamedTuple):
    """What one reader reads: a file, a part of a file, or a part of a dataset.

    Attributes:
      name: a path, or hf://OWNER/NAME[/CONFIG].
      kind: text, jsonl, csv, tsv, parquet, warc or hf.
      start, end: for uncompressed text and JSONL, bytes: the unit has the lines that begin between them; for Parquet,
        row groups; for a dataset, shard number `start` of `end`.
      size: its size in bytes, roughly.
    """

    name: str
    kind: str
    start: int
    end: int
    size: int


def plan_pieces(inputs: Iterable[str], patterns: Iterable[str] = ()) -> list[list[Unit]]:
    """Split the input into pieces, one a task, in the order of the command line and, within folders, of the names.

    Args:
      inputs: files, folders, hf://OWNER/NAME[/CONFIG].
      patterns: which files to take from folders, such as *.py; by default those of a known kind.

    Raises:
      UsageError: an input does not exist, or has nothing to read.
      DataError: a named file is of a format that can't be read.
    """
    units = [unit for name in inputs for unit in _units(name, tuple(patterns))]
    for unit in units:
        try:
            unit.name.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{unit.name!r}: the name of this file is not UTF-8; rename it") from None
    limit = _limit(sum(unit.size for unit in units))
    while len(pieces := _group(units, limit)) > PIECES[-1]:
        limit *= 2
    return pieces


def _group(units: list[Unit], limit: int) -> list[list[Unit]]:
    pieces, size = [[]], 0
    for unit in units:
        if pieces[-1] and size + unit.size > limit:
            pieces.append([])
            size = 0
        pieces[-1].append(unit)
        size += unit.size
    return pieces


def _limit(size: int) -> int:
    """The size of a piece in bytes: a task costs some hundredths of a second, and a killed one loses only its own work.

    So a piece has 4 MiB; where that would make more than 256 pieces, more, up to 64 MiB. There are never more than 900
    pieces: stages that look for duplicates have a file of each open.
    """
    pieces, largest, max_pieces = PIECES
    return max(PIECE_BYTES, min(-(-size // pieces), largest), -(-size // max_pieces))


def _units(name: str, patterns: tuple[str, ...]) -> Iterator[Unit]:
    if name.startswith("hf://"):
        shards = open_dataset(name).num_shards
        yield from (Unit(name, "hf", shard, shards, PIECE_BYTES) for shard in range(shards))
        return
    path = Path(name)
    if path.is_dir():
        require_text_format(name)
        files = sorted(_list_files(path, patterns))
        chosen = [file for file in files if _matches(file, patterns)]
        if unreadable := [file for file in chosen if not file.is_file()]:
            raise DataError(f"{unreadable[0]}: a link to nothing, or no file; remove it, or choose others with --files")
        if not chosen:
            what = " ".join(patterns) if patterns else ", ".join(KNOWN_SUFFIXES)
            raise UsageError(f"{name}: {plural(len(files), 'file')}, none of which is {what}; name others with --files")
    elif path.is_file():
        require_text_format(name)
        chosen = [path]
    else:
        raise UsageError(f"{name}: no such file or folder; give text, JSONL, CSV, Parquet, WARC, hf://OWNER/NAME or -")
    for file in chosen:
        what, size = detect_kind(file), file.stat().st_size
        if what in ("text", "jsonl") and file.suffix.lower() not in COMPRESSED:
            cuts = [*range(0, size, CUT_BYTES if what == "text" else PIECE_BYTES), size] if size else [0, 0]
            yield from (Unit(str(file), what, *ends, ends[1] - ends[0]) for ends in itertools.pairwise(cuts))
        elif what == "parquet":
            groups = [(group, group + 1) for group in range(_row_groups(file))] or [(0, 0)]  # it may have no rows
            yield from (Unit(str(file), what, *ends, size // len(groups)) for ends in groups)
        else:
            yield Unit(str(file), what, 0, size, size)


def _list_files(folder: Path, patterns: tuple[str, ...]) -> Iterator[Path]:
    """All that is not a folder in a folder and those below it, links to folders too: each folder once, so loops end.

    As for a shell's *, names that begin with a dot are left out, except files where a pattern begins with one.
    """
    hidden_files = any(pattern.startswith(".") for pattern in patterns)
    pending, seen = collections.deque([folder]), set()
    while pending:
        folder = pending.pop()
        if (real := folder.resolve()) in seen:
            continue
        seen.add(real)
        try:
            children = sorted(folder.iterdir())
        except OSError as error:
            raise DataError(f"{folder}: {error.strerror}; give folders that can be read") from None
        for child in children:
            hidden = child.name.startswith(".")
            if not child.is_dir():
                if not hidden or hidden_files:
                    yield child
            elif not hidden and child.is_symlink():
                pending.appendleft(child)  # after all that is no link, whose names stay what they are
            elif not hidden:
                pending.append(child)


def _matches(file: Path, patterns: tuple[str, ...]) -> bool:
    if patterns:
        return any(fnmatch.fnmatch(file.name, pattern) for pattern in patterns)
    return file.name.lower().removesuffix(".gz").removesuffix(".zst").endswith(KNOWN_SUFFIXES)


def detect_kind(file: Path) -> str:
    name = file.name.lower().removesuffix(".gz").removesuffix(".zst")
    kinds = {".csv": "csv", ".tsv": "tsv", ".parquet": "parquet", ".warc": "warc", ".wet": "warc"}
    return "jsonl" if name.endswith(JSON_LINES) else kinds.get(Path(name).suffix, "text")


def _row_groups(file: Path) -> int:
    from pyarrow import ArrowException

    try:
        with open_parquet(file) as parquet:
            return parquet.num_row_groups
    except (ArrowException, OSError, OverflowError, ValueError):
        return 1  # the reader reports what is wrong with it


def open_dataset(name: str) -> Any:
    """Open the training split of a dataset on the Hugging Face Hub, as a stream."""
    try:
        import datasets
    except ImportError:
        raise UsageError(f"{name} needs the library datasets: pip install -r requirements-data.txt") from None
    owner, _, path = name.removeprefix("hf://").partition("/")
    title, _, config = path.partition("/")
    try:
        return datasets.load_dataset(f"{owner}/{title}", config or None, split="train", streaming=True)
    except Exception as error:  # of many types: no such dataset, no network, no permission
        raise DataError(f"{name}: {' '.join(str(error).split())[:300]}; check the name and the network") from None


def save_streams(names: Iterable[str], stem: Path, fresh: bool = False) -> list[str]:
    """The names, with files in place of standard input (-) and pipes: these are read once, and by this process only.

    A file has the kind that the pipe's name says; without, it is JSONL if its first line is an object, else text.

    Args:
      stem: how the files' names begin; where an earlier start has saved one, the stream must give the same, or nothing.
        `fresh` deletes it.

    Raises:
      UsageError: a stream gives something else, or standard input is closed.
    """
    numbered = ((name, stem.with_name(f"{stem.name}{number}")) for number, name in enumerate(names))
    return [str(_save_stream(name, saved, fresh)) if is_stream(name) else name for name, saved in numbered]


def is_stream(name: str) -> bool:
    """Whether a name is standard input or a pipe, which can be read once."""
    path = Path(name)
    if name == "-" or not path.exists() or path.is_dir():
        return name == "-"
    return not path.is_file() or name.startswith(("/dev/fd/", "/dev/stdin", "/proc/"))  # a worker has others there


def _save_stream(name: str, saved: Path, fresh: bool) -> Path:
    suffix = "".join(Path(name).suffixes)
    paths = [saved.with_suffix(each) for each in ([suffix] if suffix else [".jsonl", ".txt"])]
    if fresh:
        for path in paths:
            path.unlink(missing_ok=True)
    earlier = next(filter(Path.exists, paths), None)
    if name == "-" and sys.stdin is None:
        if earlier:
            return earlier
        raise UsageError("-: standard input is closed; give a file, or pipe text in")
    with contextlib.nullcontext(sys.stdin.buffer) if name == "-" else open(name, "rb") as stream:
        if earlier:
            _require_same(name, stream, earlier)
            return earlier
        first = stream.readline(JSON_LINE_BYTES)
        path = saved.with_suffix(suffix or (".jsonl" if _is_object(first) else ".txt"))
        with new_file(path) as temporary, temporary.open("wb") as file:
            file.write(first)
            shutil.copyfileobj(stream, file)
    return path


def _require_same(name: str, stream: BinaryIO, saved: Path) -> None:
    """Refuse a stream that is not what an earlier start has saved; an empty one is of a source that gives it once."""
    with saved.open("rb") as file:
        first = part = stream.read(CHUNK_BYTES)
        while part and part == file.read(len(part)):
            part = stream.read(CHUNK_BYTES)
        if first and (part or file.read(1)):
            raise UsageError(
                f"{name}: is not the input of the start that was interrupted, which {saved} has; to resume, give the "
                "same again, or nothing (</dev/null); else choose another --out, or --fresh to start over"
            )


def _is_object(line: bytes) -> bool:
    try:
        parse_record(line)
    except RecordError:
        return False
    return True
