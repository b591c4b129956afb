"""Which data a run reads, and how much of it at a time."""

import dataclasses
from typing import Literal

from jaxgpt.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class DataConfig:
    """What is read, in which order, and how much at a time."""

    B: int = 4
    """Batch size, in sequences per step."""
    T: int = 32
    """Sequence length, in tokens; at most --block-size."""
    accumulate: int = 1
    """Batches of B that an optimizer step adds up, in the memory of one: it equals the step of a B this much larger."""
    data: str = "shakespeare"
    """A UTF-8 text, a .bin token file, a prepared folder (its train split), or shakespeare. Examples: .jsonl of
    {"prompt", "completion"} or {"messages"}; .jsonl, .csv or .tsv of "text" and "label"."""
    mix: str | None = None
    """Several texts in place of --data, each with its share of the sequences: a.txt=0.7,FOLDER=0.3."""
    order: Literal["sequential", "shuffled"] = dataclasses.field(default="sequential", metadata={"may_change": False})
    """Order of a text's windows of T tokens: as they stand, or shuffled anew in every epoch, by --seed."""
    val: str | None = None
    """Validation data: a file like --data; a prepared folder, for its val split; or a fraction: the end of a text, or
    examples drawn at random."""
    allow_other_data: bool = False
    """Resume from a checkpoint of another text: at the same position in this one."""

    def __post_init__(self):
        for name in ("B", "T", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def B_step(self) -> int:
        """Sequences of one optimizer step."""
        return self.B * self.accumulate

    @property
    def val_fraction(self) -> float:
        """--val, if it is a fraction; else 0.

        Raises:
          UsageError: it is empty, or a number that is no fraction.
        """
        if self.val == "":
            raise UsageError("--val is empty; name a file or a fraction")
        try:
            fraction = float(self.val or "file")
        except ValueError:
            return 0
        if not 0 < fraction < 1:
            raise UsageError(f"--val {self.val}: a fraction must lie between 0 and 1, or name a file")
        return fraction
