"""The rows of log.jsonl as columns of numbers, quickly enough for a million rows."""

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.runs.rows import MAX_STEP_MS, NAME, read_pieces

MAX_COLUMNS = 200  # many more than a run logs


@dataclasses.dataclass(frozen=True)
class History:
    """The rows of a log, the last one of each step, in the order of their steps.

    Attributes:
      steps: int64 (n,), ascending.
      columns: by name, float64 (n,): NaN where a row has no such number, or one that is not finite.
      skipped_lines: malformed lines, without one at the end that is half written.
    """

    steps: np.ndarray
    columns: dict[str, np.ndarray]
    skipped_lines: int = 0

    def __getitem__(self, name: str) -> np.ndarray:
        """A column; NaN throughout where no row has it."""
        return self.columns.get(name, np.full(len(self.steps), np.nan))

    def validated(self) -> np.ndarray:
        """The indices of the rows that have the numbers of a validation."""
        has = [np.isfinite(self.columns[name]) for name in self.columns if name.startswith("val_")]
        return np.flatnonzero(np.any(has, axis=0)) if has else np.empty(0, int)

    def seconds(self) -> np.ndarray:
        """The time in which the steps up to each row were trained, float64 (n,): no validation, save or pause."""
        return np.cumsum(np.nan_to_num(self["step_ms"]).clip(0, MAX_STEP_MS)) / 1000


def read_history(log: Path) -> History:
    """Read a log; none is one without rows.

    Raises:
      CheckpointError: it can't be read.
    """
    pieces, skipped = [], 0
    for rows, others in read_pieces(log):
        skipped += others
        pieces.append(_columns(rows))
    names = list(dict.fromkeys(name for piece in pieces for name in piece))[:MAX_COLUMNS]
    lengths = [len(piece["step"]) for piece in pieces]
    columns = {
        name: np.concatenate([piece.get(name, np.full(n, np.nan)) for piece, n in zip(pieces, lengths, strict=True)])
        for name in names
    }
    steps = columns.pop("step", np.empty(0, np.int64))
    _, last = np.unique(steps[::-1], return_index=True)
    order = len(steps) - 1 - last
    return History(steps[order], {name: column[order] for name, column in columns.items()}, skipped)


def _columns(rows: list[dict[str, Any]]) -> dict[str, np.ndarray]:
    """The numbers of rows, each column float64 (n,)."""
    columns = {"step": np.array([row["step"] for row in rows], np.int64)}
    names = dict.fromkeys(name for keys in dict.fromkeys(map(tuple, rows)) for name in keys)
    for name in [name for name in names if name != "step" and NAME.fullmatch(name)][:MAX_COLUMNS]:
        values = [row.get(name) for row in rows]
        kinds = set(map(type, values))
        if kinds <= {int, float, bool, type(None)} and kinds != {type(None)}:
            columns[name] = np.array(values, float)
            columns[name][~np.isfinite(columns[name])] = np.nan
    return columns
