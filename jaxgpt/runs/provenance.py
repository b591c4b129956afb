"""Where exported weights are from: a small file beside them."""

import dataclasses
import json
import os
from pathlib import Path

from jaxgpt.files import is_path
from jaxgpt.json_file import try_read_json

FILE = "provenance.json"


@dataclasses.dataclass(frozen=True)
class Provenance:
    """What an export says of itself.

    Attributes:
      run: its run's folder, relative to the export's, so that it names nothing above what both are in.
      step: the checkpoint's steps.
      data: the fingerprint of what the run was trained on last.
    """

    run: str
    step: int
    data: str

    def to_json(self) -> str:
        return json.dumps({"format": 1} | dataclasses.asdict(self), indent=2) + "\n"


def describe(run: Path, folder: Path, step: int) -> Provenance:
    """The provenance of an export of a run's checkpoint to a folder."""
    config = try_read_json(run / "config.json")
    data = config.get("fingerprint") if isinstance(config, dict) else None
    return Provenance(os.path.relpath(run.resolve(), folder.resolve()), step, data if isinstance(data, str) else "")


def read_provenance(folder: Path) -> Provenance | None:
    """That of an export; None: it has none, or one that is corrupt."""
    content = try_read_json(folder / FILE)
    if not isinstance(content, dict) or content.get("format") != 1:
        return None
    values = [content.get(field.name) for field in dataclasses.fields(Provenance)]
    valid = [type(value) for value in values] == [str, int, str] and is_path(values[0])
    return Provenance(*values) if valid else None
