"""The rows of a run's log.jsonl, one for each step."""

import errno
from pathlib import Path
from typing import Any

from jaxgpt.errors import CheckpointError
from jaxgpt.json_file import parse_json


def parse_row(line: bytes) -> dict[str, Any] | None:
    """A row of log.jsonl; None for a line that is none: corrupt, or not ours."""
    try:
        row = parse_json(line)
    except ValueError:
        return None
    return row if isinstance(row, dict) and type(row.get("step")) is int else None


def read_rows(log: Path) -> dict[int, dict[str, Any]]:
    """The rows of a log by their steps; other lines are skipped."""
    try:
        if log.exists() and not log.is_file():  # a pipe would be waited for
            raise OSError(errno.EINVAL, "no regular file")
        parsed = [parse_row(line) for line in log.read_bytes().splitlines()]
    except OSError as error:
        raise CheckpointError(f"{log}: {error.strerror}; give a run folder") from None
    numbers = ("position", "tokens_seen")
    return {row["step"]: row for row in parsed if row and all(type(row.get(name)) is int for name in numbers)}
