"""Follow a run's log.jsonl, which grows, is cut off at a checkpoint, and may have its last row amended."""

import dataclasses
import errno
import hashlib
import itertools
import math
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.rows import parse_row

BLOCK = 2**20  # bytes that are hashed at a time
NAME = re.compile(r"[A-Za-z][\w.-]{0,99}", re.ASCII)  # of a number, such as any tracker takes


@dataclasses.dataclass(frozen=True)
class Row:
    """The numbers of a step.

    Attributes:
      step: from 0.
      values: the finite numbers of the row by their names.
      seconds: that were trained until its end.
    """

    step: int
    values: dict[str, float]
    seconds: float = dataclasses.field(default=0.0, compare=False)


class LogReader:
    """Reads the rows of a log once each, in order, and knows whether what it has read still holds.

    A row is read when its line is complete, and what is no row is skipped. Of rows of one step the last counts: a row
    that is not after the row before is a change, and from then on rows are sorted, which takes all into memory.

    Attributes:
      count: how many rows it has read.
    """

    def __init__(self, path: Path):
        self._path = path
        self._sorts, self._is_mixed = False, False
        self.rewind()

    def rewind(self) -> None:
        """Read from the first row again."""
        self._end, self._digest = 0, hashlib.sha256()  # of the bytes that were read
        self._last, self._seconds, self.count = -1, 0.0, 0
        self._sorts, self._is_mixed = self._sorts or self._is_mixed, False
        self._sorted: Iterator[dict[str, Any]] = iter(())

    def is_unchanged(self) -> bool:
        """Whether the log still begins with all that was read, and has no later row of a step that was."""
        if self._is_mixed:
            return False
        digest, left = hashlib.sha256(), self._end
        with self._open() as file:
            while left and (block := file.read(min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
        return digest.digest() == self._digest.digest()

    def read(self, count: int) -> list[Row]:
        """The next rows, at most so many."""
        rows: list[Row] = []
        with self._open() as file:
            file.seek(self._end)
            if self._sorts and not self._end:
                last = {row["step"]: row for row in self._parse(file)}
                self._sorted = iter([last[step] for step in sorted(last)])
            for row in itertools.islice(itertools.chain(self._sorted, self._parse(file)), count):
                if row["step"] <= self._last:
                    self._is_mixed = True
                    break
                values = {name: float(value) for name, value in row.items() if _is_number(name, value)}
                self._last, self._seconds = row["step"], self._seconds + values.get("step_ms", 0.0) / 1000
                rows.append(Row(self._last, values, self._seconds))
        self.count += len(rows)
        return rows

    def _parse(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        """The rows of the complete lines that were not read."""
        while (line := file.readline()).endswith(b"\n"):
            self._end += len(line)
            self._digest.update(line)
            if (row := parse_row(line)) and row["step"] >= 0:
                yield row

    def _open(self) -> IO[bytes]:
        """The log; an empty file where it is missing, as before the first row of a run that was moved."""
        try:
            if self._path.exists() and not self._path.is_file():  # a pipe would be waited for
                raise OSError(errno.EINVAL, "no regular file")
            return self._path.open("rb")
        except FileNotFoundError:
            return open(os.devnull, "rb")
        except OSError as error:
            raise CheckpointError(f"{self._path}: {error.strerror}; give a run folder") from None


def _is_number(name: str, value: object) -> bool:
    return (
        isinstance(value, int | float) and math.isfinite(value) and name != "step" and NAME.fullmatch(name) is not None
    )
