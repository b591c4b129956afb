"""The runs of a sweep: every combination of the flags that a TOML file has."""

import dataclasses
import itertools
import re
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaxgpt.console import plural
from jaxgpt.data import datasets
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.errors import DataError
from jaxgpt.training.config import TrainConfig, fixed_flags

MAX_RUNS, MAX_BYTES = 10_000, 2**20
ALL = "all"  # the row of a file that names none


@dataclasses.dataclass(frozen=True)
class SweepRun:
    """One run.

    Attributes:
      row: the name of its flags that belong together.
      values: what it has of the grid, by flag.
      flags: all that it has, by flag.
    """

    row: str
    values: Mapping[str, Any]
    flags: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Its folder's name."""
        parts = [self.row, *(f"{flag}={value}" for flag, value in self.values.items())]
        return re.sub(r"[^\w.+=-]", "_", "-".join(parts))[:200]

    @property
    def words(self) -> list[str]:
        """Its flags as words of `jaxgpt train`."""
        words = []
        for flag, value in self.flags.items():
            if isinstance(value, bool):
                words.append(f"--{flag}" if value else f"--no-{flag}")
            else:
                words.append(f"--{flag}={value}")
        return words


def read_sweep(path: Path) -> list[SweepRun]:
    """The runs that a file asks for, in the order of its rows and of the values in its grid.

    Raises:
      DataError: it can't be read, or is no such file.
    """
    try:
        content = tomllib.loads(_read(path))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is no TOML ({' '.join(str(error).split())[:200]}); correct it") from None
    if unknown := content.keys() - {"flags", "grid", "rows"}:
        raise DataError(f"{path}: [{min(unknown)}]: no such table; use [flags], [grid] and [rows.NAME]")
    common = _flags(path, "flags", content.get("flags", {}))
    grid = _names(path, "grid", content.get("grid", {}))
    for flag, values in grid.items():
        if not isinstance(values, list) or not values or not all(map(_is_value, values)):
            raise DataError(f"{path}: {flag} in [grid] must be a list of values, such as [1e-3, 3e-3]")
        if len({*map(str, values)}) < len(values):
            raise DataError(f"{path}: {flag} in [grid] has a value twice")
    rows = content.get("rows", {ALL: {}})
    if not isinstance(rows, dict) or not rows or not all(isinstance(each, dict) for each in rows.values()):
        raise DataError(f"{path}: [rows] must have tables of flags, such as [rows.small]")
    runs = []
    for row, flags in rows.items():
        own = _flags(path, f"rows.{row}", flags)
        if twice := (own.keys() | common.keys()) & grid.keys():
            raise DataError(f"{path}: {min(twice)} is in [grid] and in another table; leave it out of one")
        for values in itertools.islice(itertools.product(*grid.values()), MAX_RUNS + 1):
            chosen = dict(zip(grid, values, strict=True))
            runs.append(SweepRun(row, chosen, common | own | chosen))
    if len(runs) > MAX_RUNS:
        raise DataError(f"{path}: more than {plural(MAX_RUNS, 'run')}; use fewer values")
    names = [run.name for run in runs]
    if twice := {name for name in names if names.count(name) > 1}:
        raise DataError(f"{path}: two runs would have the name {min(twice)}; give rows and values simpler names")
    return runs


def _read(path: Path) -> str:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DataError(f"{path}: is no file; give a TOML file")
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}; give a TOML file") from None
    if len(content) > MAX_BYTES:
        raise DataError(f"{path}: is larger than {MAX_BYTES:,} bytes; give a TOML file of flags")
    return content.decode("utf-8-sig")


def _names(path: Path, table: str, content: Any) -> dict[str, Any]:
    """A table with its keys as flags are written."""
    if not isinstance(content, dict):
        raise DataError(f"{path}: [{table}] must be a table of flags")
    named = {name.replace("_", "-"): value for name, value in content.items()}
    if len(named) < len(content):
        raise DataError(f"{path}: [{table}] has a flag twice, with - and with _")
    if reserved := named.keys() & {"out", "fresh"}:
        raise DataError(f"{path}: {min(reserved)} in [{table}]: a sweep sets it itself; leave it out")
    return named


def _flags(path: Path, table: str, content: Any) -> dict[str, Any]:
    named = _names(path, table, content)
    for flag, value in named.items():
        if not _is_value(value):
            raise DataError(f"{path}: {flag} in [{table}] must be one value; a list of them belongs into [grid]")
    return named


def _is_value(value: Any) -> bool:
    return isinstance(value, str | int | float) and not (isinstance(value, str) and not value)


def require_same_run(
    folder: Path, saved: TrainConfig, fingerprint: str, sha256: str | None, wanted: TrainConfig
) -> None:
    """Refuse a finished run of other flags or of another text than those that are wanted.

    Args:
      saved: the run's flags.
      fingerprint: of the text that it was trained on.
      sha256: of its tokenizer; None: GPT-2's, of an older run.

    Raises:
      DataError: it names what differs.
    """
    names = {*fixed_flags(wanted), *vars(wanted.data), "steps", "epochs"} - {"allow_other_data", "tokenizer"}
    old, new = saved.flat(), wanted.flat()
    differences = [f"{name} {old[name]} there and {new[name]} here" for name in sorted(names) if old[name] != new[name]]
    if not differences:
        options = wanted.preset.predict_tokens, wanted.fields, wanted.model_config().bidirectional
        text, _ = datasets.load(wanted.data, wanted.run.seed, *options, learns_pairs=wanted.learns_pairs)
        if text.tokenizer.sha256 != (sha256 or GPT2_TOKENIZER.sha256):
            differences = ["another tokenizer"]
        elif text.fingerprint != fingerprint:
            differences = ["another text"]
    if differences:
        raise DataError(
            f"{folder} is a run of another configuration: {', '.join(differences)}; use another --out, or delete it"
        )
