"""What to train a run on with, and what it may lose by that, as flags."""

import dataclasses
import math
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import positional
from jaxgpt.errors import UsageError, require

GATES = ("data", "choices", "generate")  # what --gate can measure: flags of `jaxgpt evaluate`
# Flags of `jaxgpt train` that this command sets itself.
RESERVED = ("out", "fresh", "data", "mix", "val", "val-also", "init-from", "tokenizer", "steps", "epochs")
RESERVED += ("lr", "schedule", "warmup-ratio", "cooldown-ratio", "eval-every", "allow-other-data")
RESERVED += ("coordinator", "num-processes", "process-id")


@dataclasses.dataclass(frozen=True)
class UpdateConfig:
    """Train a run on with new text and a share of the old, and promote the result if nothing old is forgotten.

    The loss on old and new validation texts is measured before, during and after. Exit code 6: a gate was not passed,
    and nothing was promoted. Run the same command again to resume.
    """

    run: Annotated[Path, *positional("RUN")]
    """A run folder, for its newest checkpoint; RUN/checkpoints/N; or the link of promoted runs."""
    data: str
    """The new text: whatever train's --data takes, but for examples."""
    out: Path
    """A new folder, for the run that is made."""
    replay: float = 0.05
    """Share of the windows that are the old text's, 0 to below 1, in the proportions that RUN had."""
    val: str | None = None
    """Validation text of the new data, or a fraction, its end; by default a prepared folder's val split, else 0.1."""
    old_val: tuple[str, ...] = ()
    """Validation texts of the old data; by default RUN's own --val, and those that it has from runs before it."""
    epochs: float = 1.0
    """How often the new text is read."""
    steps: int | None = None
    """Length in steps, in place of --epochs."""
    lr: float | None = None
    """Peak of the learning rate; by default RUN's."""
    schedule: Literal["constant", "cosine", "wsd"] = "cosine"
    """Learning rate after the warm-up, as train's; wsd ends with its cooldown."""
    warmup_ratio: float = 0.05
    """Share of the steps in which the learning rate rises to its peak again; 0 from a checkpoint before a cooldown."""
    cooldown_ratio: float = 0.2
    """wsd: share of the steps at whose end the learning rate falls; 1 is a cooldown alone."""
    eval_every: int | None = None
    """Steps between validations on the old and new texts; by default a tenth of the steps."""
    max_forgetting: float = 0.02
    """The most that the loss on an old validation text may rise, in nats, beyond two standard errors of the rise."""
    gate: tuple[str, ...] = ()
    """Measurements that may not become worse, beyond two standard errors: choices=FILE, generate=FILE (its f1),
    data=TEXT (its loss), as evaluate's flags of these names."""
    promoted: Path | None = None
    """The link that is moved to the new run if all gates are passed; by default `promoted` beside RUN."""
    flags: tuple[str, ...] = ()
    """Flags of `jaxgpt train` in place of RUN's: B=8 save-every=100 device=cpu ..."""

    def __post_init__(self):
        require(0 <= self.replay < 1, "replay", self.replay, "from 0 to below 1")
        require(0 < self.epochs <= 10**6, "epochs", self.epochs, "above 0, up to 1,000,000")
        require(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        require(0 <= self.max_forgetting < math.inf, "max_forgetting", self.max_forgetting, "a number, 0 or above")
        for word in self.gate:
            name, equals, value = word.partition("=")
            if name not in GATES or not (equals and value):
                raise UsageError(f"--gate {word}: use NAME=FILE, with the name {' or '.join(GATES)}")
        if len({*self.gate}) < len(self.gate):
            raise UsageError("--gate names a measurement twice; leave one out")
        for word in self.flags:
            name, equals, value = word.partition("=")
            if not (name and equals and value):
                raise UsageError(f"--flags {word}: use NAME=VALUE, such as B=8")
            if name.replace("_", "-").startswith("dp-"):
                raise UsageError(f"--flags {word}: texts that are mixed are not drawn with one rate; leave it out")
            if name.replace("_", "-") in RESERVED:
                raise UsageError(f"--flags {word}: jaxgpt update sets it itself, or has a flag for it; leave it out")
