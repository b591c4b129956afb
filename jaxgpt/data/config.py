"""Which data a run reads, and how much of it at a time."""

import dataclasses
import re
import shlex
from typing import Literal

from jaxgpt.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class FieldNames:
    """The names of fields in a file of examples, where they are other ones."""

    prompt_field: str | None = None
    """Name of "prompt" in a file of examples."""
    completion_field: str | None = None
    """Name of "completion"."""
    chosen_field: str | None = None
    """Name of "chosen", of two answers the better."""
    rejected_field: str | None = None
    """Name of "rejected"."""
    messages_field: str | None = None
    """Name of "messages"."""
    text_field: str | None = None
    """Name of "text" in a file with labels, or those of "text_a" and "text_b": premise,hypothesis."""
    label_field: str | None = None
    """Name of "label"."""
    score_field: str | None = None
    """Name of the field of a number to predict, in place of a label: score, similarity, ..."""

    def __post_init__(self):
        if (self.text_field or "").count(",") > 1:
            raise UsageError(f"{self}: an example has one text or two; give one name, or two with a comma between them")

    @property
    def renamed(self) -> dict[str, str]:
        """The names that are given, by the usual ones."""
        names = {flag.removesuffix("_field"): name for flag, name in vars(self).items() if name is not None}
        if "," in names.get("text", ""):
            names["text_a"], names["text_b"] = names.pop("text").split(",")
        return names

    @property
    def words(self) -> list[str]:
        """The flags that are given, as words of a command."""
        given = ((f"--{flag.replace('_', '-')}", name) for flag, name in vars(self).items() if name is not None)
        return [word for flag_and_name in given for word in flag_and_name]

    def __str__(self) -> str:
        return shlex.join(self.words)


USUAL_FIELDS = FieldNames()


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
    """A UTF-8 text, .jsonl of {"text"}, a .bin token file, a prepared folder (its train split), or shakespeare.
    Examples: .jsonl, .csv or .tsv of "prompt" and "completion", of "messages", of "text" and "label", of "prompt",
    "chosen" and "rejected", or another that docs/finetuning.md or docs/preferences.md has."""
    tokenizer: str = "gpt2"
    """What makes token ids of a text: gpt2; bytes; chars, the characters of the training text; or a tokenizer.json, or
    a folder with one. By default that of --init-from."""
    mix: str | None = None
    """Several texts in place of --data, each with its share of the sequences: a.txt=0.7,FOLDER=0.3."""
    order: Literal["sequential", "shuffled"] = dataclasses.field(default="sequential", metadata={"may_change": False})
    """Order of a text's windows of T tokens: as they stand, or shuffled anew in every epoch, by --seed."""
    mask_ratio: float = 0.15
    """An encoder: the share of the tokens that are hidden, to be told from the others."""
    val: str | None = None
    """Validation data: a file like --data; a prepared folder, for its val split; or a fraction: the end of a text, or
    examples drawn at random."""
    val_also: str | None = None
    """Further validation texts, measured whenever --val is, each with a name for log.jsonl: old=old.txt,web=FOLDER."""
    allow_other_data: bool = False
    """Resume from a checkpoint of another text: at the same position in this one."""

    def __post_init__(self):
        for name in ("B", "T", "accumulate"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 < self.mask_ratio < 1, "mask_ratio", self.mask_ratio, "between 0 and 1")
        if self.val_also_texts and self.val is None:
            raise UsageError(f"--val-also {self.val_also}: it goes with --val; name a file or a fraction with that")

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
            if percent := re.fullmatch(r"(\d+(\.\d+)?) ?%", self.val or ""):
                raise UsageError(f"--val {self.val}: write a fraction: --val {float(percent[1]) / 100:g}") from None
            return 0
        if not 0 < fraction < 1:
            raise UsageError(f"--val {self.val}: a fraction must lie between 0 and 1, such as 0.1; or name a file")
        return fraction

    @property
    def val_also_texts(self) -> dict[str, str]:
        """The texts of --val-also, by their names in log.jsonl.

        Raises:
          UsageError: it is not of that form, or a name is there twice.
        """
        texts: dict[str, str] = {}
        for part in re.split(r",(?=\w+=)", self.val_also) if self.val_also is not None else []:
            name, _, text = part.partition("=")
            if not re.fullmatch(r"[a-z][a-z0-9_]*", name) or not text or name in texts:
                raise UsageError(f"--val-also {self.val_also}: give each text a name of its own: old=a.txt,web=b.txt")
            texts[name] = text
        return texts
