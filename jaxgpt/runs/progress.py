"""The JSON of a checkpoint: how far the run is, which run it is, and what its arrays are held to."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from jaxgpt.errors import DamagedError
from jaxgpt.runs.fingerprint import by_name


@dataclasses.dataclass(frozen=True)
class Progress:
    """How far a run is, and which run it is.

    Attributes:
      step: optimizer steps done.
      position: where in the corpus the next batch starts; the loader's whole state.
      tokens_seen: tokens trained on.
      B, T, steps, accumulate: the flags of that run which a resume may change.
      identity: everything that it may not, as identity.identity gives it.
      best: the lowest held-out loss so far: step, loss, and `of`, the fingerprint of what is held out; None: there is
        none.
    """

    step: int
    position: int
    tokens_seen: int
    B: int
    T: int
    steps: int
    accumulate: int
    identity: dict
    best: dict | None = None


def to_json(progress: Progress, state: Any, versions: dict[str, str]) -> dict[str, Any]:
    """What is saved beside a state: its progress, a fingerprint of every array, versions, and a SHA-256 of all that."""
    content = {**dataclasses.asdict(progress), "fingerprint": by_name(state), "versions": versions}
    return content | {"sha256": _sha256(content)}


def from_json(content: Any, where: Path) -> tuple[Progress, dict[str, str]]:
    """The progress and the fingerprints that were saved.

    Raises:
      DamagedError: it is not what was saved; `where` names the checkpoint.
    """
    try:
        rest = dict(content)
        if "sha256" not in rest:
            raise ValueError("its JSON has no SHA-256: it is not whole, or of an older version")
        if rest.pop("sha256") != _sha256(rest):
            raise ValueError("its JSON is not what was saved")
        fingerprint = rest["fingerprint"]
        return Progress(**{name: rest[name] for name in rest if name not in ("fingerprint", "versions")}), fingerprint
    except (TypeError, ValueError, KeyError) as error:
        raise damaged(where, error) from error


def require_fingerprint(tree: Any, saved: dict[str, str], where: Path) -> None:
    """Refuse arrays that are not those whose fingerprints were saved.

    Raises:
      DamagedError: it names the first array that differs.
    """
    for name, number in by_name(tree).items():
        if saved.get(name) != number:
            raise damaged(where, ValueError(f"{name} has the fingerprint {number}, and {saved.get(name)} was saved"))


def damaged(where: Path, error: Exception) -> DamagedError:
    return DamagedError(f"{where} is damaged and can't be used ({brief(error)})")


def brief(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
