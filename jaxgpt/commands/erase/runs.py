"""Runs and exports on a disk, and what their files tell of them."""

import dataclasses
import os
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.data.shards import META
from jaxgpt.data.text_part import name_of_whole
from jaxgpt.errors import UsageError
from jaxgpt.files import is_path
from jaxgpt.json_file import try_read_json
from jaxgpt.runs.folder import CONFIG_KEYS, LEFTOVER
from jaxgpt.runs.lineage import read_lineage
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.tensors import has_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import load_run_config

PRUNED = ("node_modules", "__pycache__", "site-packages")


@dataclasses.dataclass(frozen=True)
class RunFacts:
    """A run as its files tell of it.

    Attributes:
      folder: its folder.
      config: the flags of its last start.
      starts: its starts, as config.json has them.
      steps: steps done, of which it has a checkpoint or a row.
      checkpoints: folders in checkpoints/ by their steps; -1: halves that a kill has left.
      parents: runs or exports whose weights it began with, each with the steps that they had; None: not known.
    """

    folder: Path
    config: TrainConfig
    starts: list[dict[str, Any]]
    steps: int
    checkpoints: dict[Path, int]
    parents: tuple[tuple[Path, int | None], ...]


def find(roots: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """The run folders and the exports at and below some folders; links and hidden folders are not followed.

    Raises:
      UsageError: one of them is no folder, or can't be read: nobody should take that for an answer.
    """
    runs, exports = {}, {}
    for root in roots:
        try:
            os.listdir(root)
        except OSError as error:
            raise UsageError(f"--runs {root}: {error.strerror}; name a folder that can be read") from None
        for place, names, files in os.walk(root):
            folder = Path(place)
            if "pyvenv.cfg" in files or META in files:
                names.clear()
                continue
            config = try_read_json(folder / "config.json") if "config.json" in files else None
            if isinstance(config, dict) and (config.keys() >= CONFIG_KEYS or "starts" in config):
                runs[folder.resolve()] = folder
                names.clear()
            elif config is not None and has_weights(folder):
                exports[folder.resolve()] = folder
                names.clear()
            names[:] = sorted(name for name in names if not name.startswith(".") and name not in PRUNED)
    return list(runs.values()), list(exports.values())


def describe(run: Path) -> RunFacts:
    """What a run's files tell; CheckpointError: it is none, or its config.json is corrupt."""
    config, starts = load_run_config(run)
    starts = sorted(starts, key=lambda start: start["step"])
    checkpoints = dict(_checkpoints(run / "checkpoints"))
    rows = read_rows(run / "log.jsonl")
    steps = max([0, *checkpoints.values(), *(step + 1 for step in rows)])
    return RunFacts(run, config, starts, steps, checkpoints, tuple(_parents(run, config)))


def reads_file(run: Path, file: Path) -> bool:
    """Whether a run's flags name a file as what it trains or validates on."""
    config = try_read_json(run / "config.json") or {}
    mixed = (each.rpartition("=")[0] for each in str(config.get("mix") or "").split(","))
    also = (each.partition("=")[2] for each in str(config.get("val_also") or "").split(","))
    names = [name for name in (config.get("data"), config.get("val"), *mixed, *also) if isinstance(name, str) and name]
    places = [Path(str(config.get("cwd") or "."), name_of_whole(name)) for name in names]
    return any(os.path.exists(path) and os.path.samefile(path, file) for path in places)


def _checkpoints(folder: Path) -> Iterator[tuple[Path, int]]:
    for path in sorted(folder.iterdir()) if folder.is_dir() else []:
        if path.name.isdecimal() and not path.is_symlink():
            yield path, int(path.name)
        elif LEFTOVER.fullmatch(path.name):
            damaged = re.match(r"(\d+)\.damaged", path.name)
            yield path, int(damaged[1]) if damaged else -1


def _parents(run: Path, config: TrainConfig) -> Iterator[tuple[Path, int | None]]:
    """By --init-from, by the weights under adapters, and by lineage.json."""
    content = try_read_json(run / "config.json")
    names = {config.preset.init_from, content.get("base") if isinstance(content, dict) else None}
    for name in sorted(name for name in names if isinstance(name, str) and is_path(name)):
        path = Path(name)
        if path.parent.name == "checkpoints" and path.name.isdecimal():
            yield path.parent.parent.resolve(), int(path.name)
        else:
            yield path.resolve(), None
    for parent in (read_lineage(run) or {}).get("parents", []):
        yield Path(parent["run"]).resolve(), parent["step"]
