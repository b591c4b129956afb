"""A run as its folder has it: its configuration, the rows of its log, and its name in a report."""

import dataclasses
import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.json_file import read_json
from jaxgpt.reports.history import History, read_history
from jaxgpt.reports.spikes import Spike, find_spikes
from jaxgpt.runs.folder import describe_missing
from jaxgpt.runs.rows import parse_row

LOG, SAMPLES = "log.jsonl", "samples.jsonl"


@dataclasses.dataclass(frozen=True)
class LoggedRun:
    """A run's folder, read once; it may be training meanwhile.

    Attributes:
      folder: as the user has named it.
      label: as short as tells it from the other runs.
      config: the content of config.json; its values may be of any type.
    """

    folder: Path
    label: str
    config: dict[str, Any]
    history: History

    @functools.cached_property
    def samples(self) -> list[dict[str, Any]]:
        """The rows of samples.jsonl, with the keys `step`, `prompt` and `text`; none if it can't be read."""
        path = self.folder / SAMPLES
        try:
            lines = path.read_bytes().splitlines() if path.is_file() else []  # a pipe would be waited for
        except OSError:
            return []
        rows = filter(None, map(parse_row, lines))
        return [row for row in rows if all(isinstance(row.get(name), str) for name in ("prompt", "text"))]

    @functools.cached_property
    def spikes(self) -> list[Spike]:
        return find_spikes(self.history.steps, self.history["loss"])

    @property
    def steps_done(self) -> int:
        return int(self.history.steps[-1]) + 1 if len(self.history.steps) else 0

    @property
    def is_done(self) -> bool:
        """Whether the log has all steps that were asked for."""
        steps = self.config["steps"]
        return type(steps) is int and self.steps_done >= steps

    def x(self, axis: str) -> np.ndarray:
        """Where each row is along an axis, float64 (n,): its `step`, the `tokens` trained on, or seconds of `time`."""
        if axis == "time":
            return self.history.seconds()
        return self.history.steps.astype(float) if axis == "step" else self.history["tokens_seen"]


def load_runs(folders: Sequence[Path]) -> list[LoggedRun]:
    """Read runs.

    Raises:
      CheckpointError: one is no run's folder, or can't be read.
      UsageError: one is there twice.
    """
    seen: dict[Path, Path] = {}
    for folder in folders:
        first = seen.setdefault(folder.resolve(), folder)
        if first is not folder:
            raise UsageError(f"{folder} is the same run as {first}; name each run once")
    configs = [_read_config(folder) for folder in folders]
    histories = [read_history(folder / LOG) for folder in folders]
    return [LoggedRun(*each) for each in zip(folders, short_names(list(seen)), configs, histories, strict=True)]


def _read_config(folder: Path) -> dict[str, Any]:
    path = folder / "config.json"
    if folder.is_file():
        raise CheckpointError(f"{folder} is a file; give a run folder")
    try:
        config = read_json(path)
    except FileNotFoundError:
        raise CheckpointError(f"{folder}: no run that has begun; give a run folder") from None
    except ValueError as error:
        raise CheckpointError(f"{path}: can't be read ({error}); resume the run, which rewrites it") from None
    if not isinstance(config, dict) or (missing := describe_missing(config)):
        problem = missing if isinstance(config, dict) else "it is no JSON object"
        raise CheckpointError(f"{path} is not from a jaxgpt run: {problem}; give a run folder")
    return config


def short_names(folders: Sequence[Path]) -> list[str]:
    """For each of several paths, all different, the shortest end of it that no other has."""
    names = []
    for folder in folders:
        parts, others = folder.parts, [other.parts for other in folders if other != folder]
        n = next(n for n in range(1, len(parts) + 1) if all(other[-n:] != parts[-n:] for other in others))
        names.append(str(Path(*parts[-n:])))
    return names
