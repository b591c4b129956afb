"""The rows of a run's log.jsonl, one for each step: what all its readers take for a row, a number and the end."""

import contextlib
import errno
import io
import itertools
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from jaxgpt.errors import CheckpointError
from jaxgpt.json_file import parse_json

COUNTS = ("step", "position", "tokens_seen")  # that each row of a log has
NAME = re.compile(r"[A-Za-z][\w./-]{0,99}", re.ASCII)  # of a number, such as any tracker takes
MAX_STEP_MS = 2.6e9  # a month: no step takes longer
PIECE = 2**16  # lines that are parsed at a time


def parse_row(line: bytes, counts: Sequence[str] = ("step",)) -> dict[str, Any] | None:
    """A row of a file of rows; None for a line that is none: corrupt, or not ours.

    Args:
      counts: the integers that it must have; those of log.jsonl are COUNTS.
    """
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if _is_row(row, counts) else None


def read_rows(log: Path) -> dict[int, dict[str, Any]]:
    """The rows of a log by their steps, the last one of each; none where it is missing.

    Raises:
      CheckpointError: it can't be read.
    """
    return {row["step"]: row for rows, _ in read_pieces(log) for row in rows}


def read_pieces(log: Path) -> Iterator[tuple[list[dict[str, Any]], int]]:
    """The rows of a log in their order, some at a time, each time with how many of the lines were none.

    Raises:
      CheckpointError: it can't be read.
    """
    with open_log(log) as file:
        complete = complete_lines(file)
        while lines := [*itertools.islice(complete, PIECE)]:
            rows = [row for row in _parse(lines) if _is_row(row, COUNTS)]
            yield rows, len(lines) - len(rows)


@contextlib.contextmanager
def open_log(log: Path) -> Iterator[IO[bytes]]:
    """A context that gives a log to read; an empty one where it is missing, as before a run's first row.

    Raises:
      CheckpointError: it can't be read.
    """
    try:
        if log.exists() and not log.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "no regular file")
        try:
            file = log.open("rb")
        except FileNotFoundError:
            file = io.BytesIO()
        with file:
            yield file
    except OSError as error:
        raise CheckpointError(f"{log}: {error.strerror or error}; give a run folder") from None


def complete_lines(file: IO[bytes]) -> Iterator[bytes]:
    """The next lines of a log, without one at its end that is half written."""
    return itertools.takewhile(lambda line: line.endswith(b"\n"), file)


def _parse(lines: list[bytes]) -> list[Any]:
    try:
        rows = parse_json(b"[" + b",".join(lines) + b"]")  # several times as fast as line by line
        if len(rows) == len(lines):
            return rows
    except ValueError:  # a line is no JSON
        pass
    return [parse_row(line) for line in lines]


def _is_row(row: Any, counts: Sequence[str]) -> bool:
    return isinstance(row, dict) and all(type(row.get(name)) is int for name in counts) and row["step"] >= 0
