"""What to fine-tune on a benchmark's tasks, as flags."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any, Literal

from jaxgpt.commands.flags import positional
from jaxgpt.errors import UsageError, require

# Flags of `jaxgpt train` that this command sets itself.
RESERVED = ("out", "fresh", "data", "val", "init-from", "seed", "device", "dtype")
RESERVED += ("text-field", "label-field", "score-field")


@dataclasses.dataclass(frozen=True)
class GlueConfig:
    """Fine-tune weights on the tasks of GLUE, SuperGLUE or a table of your own, and measure them by the tasks' metrics.

    Each task is trained once for each seed and measured on its validation set; predictions for its test set are written
    in the leaderboard's format. Run the same command again to resume: runs that are done stay as they are.
    """

    folder: Annotated[Path, *positional("FOLDER")]
    """The benchmark's files as they are published, a folder for each task: FOLDER/CoLA/train.tsv, ..."""
    init_from: str
    """The weights: gpt2, gpt2-medium, gpt2-large, gpt2-xl, a folder in Hugging Face's layout, or a run."""
    tasks: tuple[str, ...] = ("all",)
    """Which tasks: CoLA MNLI ...; all: those whose files are there."""
    seeds: int = 3
    """How often each task is trained: with the seeds 0, 1, ..."""
    out: Path = Path("runs/glue")
    """A folder for the runs, table.md, results.json and predictions/."""
    table: Path | None = None
    """A TOML file of your own tasks, as docs/glue.md describes it."""
    flags: tuple[str, ...] = ()
    """Flags of `jaxgpt train` for all runs, which override a task's own: lr=3e-5 epochs=3 B=16 ..."""
    workers: int = 1
    """Runs at a time; those of one GPU share its memory."""
    batch_size: int = 32
    """Texts at a time when a model is measured."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        require(1 <= self.seeds <= 100, "seeds", self.seeds, "from 1 to 100")
        require(1 <= self.workers <= 4096, "workers", self.workers, "from 1 to 4,096")
        require(1 <= self.batch_size < 2**16, "batch_size", self.batch_size, "from 1 to 65,535")
        if not self.tasks:
            raise UsageError("--tasks is empty; name some, or leave it out")
        for word in self.flags:
            name, equals, value = word.partition("=")
            if not (name and equals and value):
                raise UsageError(f"--flags {word}: use NAME=VALUE, such as lr=3e-5")
            if name.replace("_", "-") in RESERVED:
                raise UsageError(f"--flags {word}: jaxgpt glue sets it itself; leave it out")

    @property
    def chosen_flags(self) -> dict[str, Any]:
        """Flags of `jaxgpt train`, by their names."""
        pairs = (word.partition("=")[::2] for word in self.flags)
        return {name.replace("_", "-"): value for name, value in pairs}

    def examples_path(self, task: str, name: str) -> Path:
        """Our own records of a task's file: `train`, or the name of a set with -dev or -test."""
        return self.out / "data" / task / f"{name}.jsonl"
