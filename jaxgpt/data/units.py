"""Units of privacy: the rows of each user, by a field of the records that they were made of."""

import dataclasses

import numpy as np

from jaxgpt.data.records import describe_fields, find_name, parse_records, read_content
from jaxgpt.errors import DataError


@dataclasses.dataclass(frozen=True)
class Units:
    """R rows in U groups, each of which is drawn, or not, as a whole.

    Attributes:
      rows: int64 (R,), the rows of unit 0, those of unit 1, ...
      starts: int64 (U + 1,), where each unit's begin in `rows`, and R.
    """

    rows: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.starts) - 1

    def choose(self, units: np.ndarray, chance: np.ndarray) -> np.ndarray:
        """One row of each of some units, int64: `chance`, from 0 to 1, says which."""
        first, count = self.starts[units], self.starts[units + 1] - self.starts[units]
        return self.rows[first + np.minimum((chance * count).astype(np.int64), count - 1)]


def single_rows(R: int) -> Units:
    """Each row as a unit of its own."""
    return Units(np.arange(R), np.arange(R + 1))


def read_units(path: str, field: str, lines: np.ndarray) -> Units:
    """The units of rows that were made of a file's records: those whose field has one value are one unit.

    Args:
      path: of the file.
      field: its name.
      lines: int64 (R,), the line on which each row's record begins.

    Raises:
      DataError: a record lacks the field, or there it has no text or whole number; with its line, and no value.
    """
    numbers: dict[str, int] = {}
    unit_of_line = {}
    for line, record in parse_records(path, read_content(path)):
        name = find_name(field, record)
        value = record.get(name)
        value = value.strip() if isinstance(value, str) else value
        if value == "" or isinstance(value, bool) or not isinstance(value, str | int):
            there = f" ({describe_fields(path, record, ())})" if name is None else ""
            raise DataError(
                f"{path}, line {line}: --dp-unit {field} needs a text or a whole number there; add it{there}"
            )
        unit_of_line[line] = numbers.setdefault(str(value), len(numbers))
    unit = np.array([unit_of_line[line] for line in lines.tolist()], np.int64)
    rows = np.argsort(unit, kind="stable")
    _, counts = np.unique(unit, return_counts=True)  # a user whose records were all skipped has no row, and is none
    return Units(rows, np.concatenate([[0], np.cumsum(counts)]))
