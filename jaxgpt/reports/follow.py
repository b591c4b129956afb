"""Follow a run's log.jsonl, which grows, is cut off at a checkpoint, and may have its last row amended."""

import dataclasses
import hashlib
import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from jaxgpt.runs.rows import COUNTS, MAX_STEP_MS, NAME, complete_lines, open_log, parse_row

BLOCK = 2**20  # bytes that are hashed at a time


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
        with open_log(self._path) as file:
            while left and (block := file.read(min(left, BLOCK))):
                digest.update(block)
                left -= len(block)
        return digest.digest() == self._digest.digest()

    def read(self, count: int) -> list[Row]:
        """The next rows, at most so many."""
        rows: list[Row] = []
        with open_log(self._path) as file:
            file.seek(self._end)
            if self._sorts and not self._end:
                last = {row["step"]: row for row in self._parse(file)}
                self._sorted = iter([last[step] for step in sorted(last)])
            for row in itertools.islice(itertools.chain(self._sorted, self._parse(file)), count):
                if row["step"] <= self._last:
                    self._is_mixed = True
                    break
                values = {name: float(value) for name, value in row.items() if _is_number(name, value)}
                step_ms = min(max(values.get("step_ms", 0.0), 0.0), MAX_STEP_MS)
                self._last, self._seconds = row["step"], self._seconds + step_ms / 1000
                rows.append(Row(self._last, values, self._seconds))
        self.count += len(rows)
        return rows

    def _parse(self, file: IO[bytes]) -> Iterator[dict[str, Any]]:
        """The rows that were not read."""
        for line in complete_lines(file):
            self._end += len(line)
            self._digest.update(line)
            if row := parse_row(line, COUNTS):
                yield row


def _is_number(name: str, value: object) -> bool:
    return (
        isinstance(value, int | float) and math.isfinite(value) and name != "step" and NAME.fullmatch(name) is not None
    )
