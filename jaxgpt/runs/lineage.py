"""Where a run comes from: lineage.json, what an update has made of which run and data, and what its gates have found.

A run that no update made has none: its parent is what `--init-from` named. No JAX.
"""

import hashlib
import importlib.metadata
import json
import os
import platform
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jaxgpt
from jaxgpt.errors import CheckpointError
from jaxgpt.files import is_path, new_file, report_write_errors
from jaxgpt.json_file import read_object, replace_nonfinite, try_read_json
from jaxgpt.runs.folder import LINEAGE as FILE
from jaxgpt.runs.folder import list_steps, split_checkpoint

FORMAT = 1
LISTS = {  # of objects, with the types of the fields that any of them has
    "parents": {"run": str, "id": str | None, "step": int | None},
    "data": {"name": str, "fingerprint": str, "share": int | float, "role": str},
    "gates": {"name": str, "before": int | float | None, "after": int | float | None, "passed": bool},
}


def read_lineage(run: Path) -> dict[str, Any] | None:
    """A run's lineage.json; None: it has none.

    Raises:
      CheckpointError: it is not one.
    """
    path = run / FILE
    if not os.path.lexists(path):
        return None
    try:
        content = read_object(path)
    except (FileNotFoundError, ValueError) as error:
        raise _corrupt(path, str(error)) from None
    if content.get("format") != FORMAT:
        raise _corrupt(path, f"format is {content.get('format')!r:.20}, and this version reads {FORMAT}")
    for name, fields in LISTS.items():
        entries = content.get(name)
        if not isinstance(entries, list) or not all(_has_fields(each, fields) for each in entries):
            raise _corrupt(path, f"{name!r} is missing, or not as an update writes it")
    if not all(is_path(each["run"]) for each in content["parents"]):
        raise _corrupt(path, "the run of one of its 'parents' can't be a path")
    types = {"run": str, "step": int, "created": str, "promoted": bool | str, "versions": dict}
    if not _has_fields(content, types):
        raise _corrupt(path, f"{', '.join(types)}: one is missing, or not as an update writes it")
    return content


def _has_fields(entry: Any, types: dict[str, Any]) -> bool:
    return isinstance(entry, dict) and all(isinstance(entry.get(name), kind) for name, kind in types.items())


def _corrupt(path: Path, reason: str) -> CheckpointError:
    return CheckpointError(
        f"{path}: corrupt: {reason}; the update that made the run writes it again, once it is deleted"
    )


def write_lineage(run: Path, content: dict[str, Any]) -> None:
    """Write lineage.json, in whole or not at all, with its format and the versions."""
    versions = {"jaxgpt": jaxgpt.__version__, "python": platform.python_version()}
    versions |= {name: importlib.metadata.version(name) for name in ("jax", "flax", "optax")}
    content = {"format": FORMAT, **content, "versions": versions}
    with report_write_errors(run), new_file(run / FILE) as temporary:
        temporary.write_text(json.dumps(replace_nonfinite(content), indent=2) + "\n", encoding="utf-8")


def describe_checkpoint(run: Path, step: int) -> dict[str, Any]:
    """A checkpoint as a parent in lineage.json.

    `id` is a hash of the run's signature: two runs of the same flags, seed and data have the same. The fingerprint is
    the SHA-256 that the checkpoint has of itself, and so of every array.
    """
    metadata = try_read_json(run / "checkpoints" / str(step) / "progress" / "metadata")
    metadata = metadata if isinstance(metadata, dict) else {}
    signature = metadata.get("identity")
    run_id = hashlib.sha256(json.dumps(signature, sort_keys=True).encode()).hexdigest()[:12] if signature else None
    return {"run": str(run.resolve()), "id": run_id, "step": step, "checkpoint_fingerprint": metadata.get("sha256")}


def find_parents(run: Path) -> list[dict[str, Any]]:
    """What a run began with: `run`, a path or the name of a model, and what is known of it; none if it had no weights.

    Raises:
      CheckpointError: its lineage.json is corrupt.
    """
    if lineage := read_lineage(run):
        return lineage["parents"]
    config = try_read_json(run / "config.json")
    base = config.get("base", config.get("init_from")) if isinstance(config, dict) else None
    if not isinstance(base, str) or not is_path(base):
        return []
    parent, step = split_checkpoint(Path(base))
    return [{"run": str(parent), "id": None, "step": step}]


def walk_ancestors(run: Path) -> Iterator[Path]:
    """The runs that a run comes from, those that were deleted too, the nearest first."""
    seen, waiting = {run.resolve()}, [run]
    while waiting:
        for parent in find_parents(waiting.pop(0)):
            path = Path(parent["run"]).resolve()
            if path not in seen:
                seen.add(path)
                waiting.append(path)
                yield path


def newest_step(run: Path) -> int | None:
    """Steps done in the newest checkpoint of a run, which may be corrupt; None: it has none."""
    return next(iter(list_steps(run / "checkpoints")), None)
