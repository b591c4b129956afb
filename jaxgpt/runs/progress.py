"""A run's progress, and a checkpoint's JSON: the progress, the run's signature, and fingerprints of its arrays."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

from jaxgpt.errors import CorruptError
from jaxgpt.json_file import try_read_json
from jaxgpt.runs.fingerprint import fingerprints_by_name

# Names in a run's signature that mean something else in its config.json.
DERIVED = {"T", "base", "corpus", "dtype", "order", "tokenizer"}


@dataclasses.dataclass(frozen=True)
class Best:
    """The lowest validation loss so far, or the highest score of answers.

    Attributes:
      step: after how many steps it was measured.
      loss: in nats, which need not be the lowest where another number decides.
      of: the fingerprint of the validation data, its windows, and the number of answers, if they decide.
      by: which number decides: "loss", or a score by its name, such as "rouge_l".
      score: that score; None for the loss.
    """

    step: int
    loss: float
    of: str
    by: str = "loss"
    score: float | None = None

    @property
    def rank(self) -> tuple[float, ...]:
        """Higher is better, of the same data and by the same number; of equal scores the lower loss."""
        return (-self.loss,) if self.score is None else (self.score, -self.loss)

    def __str__(self) -> str:
        loss = f"a validation loss of {self.loss:.4f}"
        return loss if self.score is None else f"a validation {self.by} of {self.score:.4f}, and {loss}"


@dataclasses.dataclass(frozen=True)
class Run:
    """Everything that changes while a run trains; a checkpoint is exactly this.

    Attributes:
      state: the parameters and the optimizer's moments, step.TrainState.
      step: optimizer steps done.
      position: where the next batch starts; the loader has no other state.
      tokens_seen: tokens trained on.
      best: the best validation so far; None: there was none.
      unvalidated: whether a signal came while the validation after the last step was measured, or it was refused.
    """

    state: Any
    step: int = 0
    position: int = 0
    tokens_seen: int = 0
    best: Best | None = None
    unvalidated: bool = False

    def advance(self, state: Any, position: int, tokens: int) -> "Run":
        """The run one step later, with the state and the position that follow a batch of so many tokens."""
        seen = self.tokens_seen + tokens
        return Run(state, self.step + 1, position, seen, self.best)


@dataclasses.dataclass(frozen=True)
class Progress:
    """A checkpoint's JSON: a Run without its state, and the run's signature.

    Attributes:
      step, position, tokens_seen, best, unvalidated: those of Run.
      B, T, steps, accumulate: the flags of that run which a resume may change.
      identity: everything that it may not, as resume.run_signature gives it.
    """

    step: int
    position: int
    tokens_seen: int
    B: int
    T: int
    steps: int
    accumulate: int
    identity: dict
    best: Best | None = None
    unvalidated: bool = False


def to_json(progress: Progress, state: Any, versions: dict[str, str]) -> dict[str, Any]:
    """What is saved beside a state: its progress, a fingerprint of every array, versions, and a SHA-256 of all that."""
    content = {**dataclasses.asdict(progress), "fingerprint": fingerprints_by_name(state), "versions": versions}
    return content | {"sha256": _sha256(content)}


def from_json(content: Any, where: Path) -> tuple[Progress, dict[str, str]]:
    """The progress and the fingerprints that were saved.

    Raises:
      CorruptError: it is not what was saved, or not at that step; `where` names the checkpoint, as folder/<steps done>.
    """
    try:
        fields = dict(content)
        if "sha256" not in fields:
            raise corrupt_error(where, "its JSON has no SHA-256: it is incomplete, or of an older version")
        if fields.pop("sha256") != _sha256(fields):
            raise corrupt_error(where, "its JSON is not what was saved")
        fingerprint = fields["fingerprint"]
        if fields.get("best"):
            fields["best"] = Best(**fields["best"])
        numbers = {name: fields[name] for name in fields if name not in ("fingerprint", "versions")}
        progress = Progress(**numbers)
    except (TypeError, ValueError, KeyError):
        raise corrupt_error(where, "its JSON is not a checkpoint's") from None
    if where.name != str(progress.step):
        raise corrupt_error(where, f"it was saved as the checkpoint of step {progress.step}")
    return progress, fingerprint


def require_same_run(progress: Progress, where: Path) -> None:
    """Refuse a checkpoint of another run than the one whose config.json is there; without that, nothing is known.

    Raises:
      CorruptError: it names what differs; `where` names the checkpoint, in its run's folder.
    """
    config, saved = try_read_json(where.parents[1] / "config.json"), progress.identity
    try:
        starts = config["starts"]
        known = {name: [config[name]] for name in config.keys() - DERIVED}
        if not starts[0].get("step"):  # else config.json was lost once, and with it what earlier starts had
            known |= {"dtype": [each["dtype"] for each in starts], "corpus": [each["fingerprint"] for each in starts]}
    except (TypeError, LookupError, AttributeError):  # there is none, it is corrupt, or of an older version
        return
    if "base" in saved:  # the weights under adapters may have another name
        known.pop("init_from", None)
    if "data_kind" not in config:  # an older run has that under the name of a flag
        known.pop("objective", None)
    for name in sorted(saved.keys() & known.keys()):
        if saved[name] not in known[name]:
            here = " or ".join(dict.fromkeys(f"{value!s:.16}" for value in known[name]))
            raise CorruptError(
                f"{where} is another run's and can't be used: {name} is {saved[name]!s:.16} there, "
                f"and {here} in this run's config.json"
            )


def require_fingerprint(tree: Any, saved: dict[str, str], where: Path) -> None:
    """Refuse arrays that are not those whose fingerprints were saved.

    Raises:
      CorruptError: it names the first array that differs.
    """
    for name, number in fingerprints_by_name(tree).items():
        if saved.get(name) != number:
            raise corrupt_error(where, f"{name} has the fingerprint {number}, and {saved.get(name)} was saved")


def corrupt_error(where: Path, reason: str) -> CorruptError:
    return CorruptError(f"{where} is corrupt and can't be used ({reason})")


def format_error(error: Exception) -> str:
    """The reason that an exception gives, in words, without Python's name of its kind."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    reason = " ".join(str(error).split())[:200] or "no reason is given"
    return f"{reason} is missing" if isinstance(error, KeyError) else reason


def _sha256(content: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
