"""Where the tasks of a stage run, by --executor, and a stage whose tasks are commands."""

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from datatrove.pipeline.base import PipelineStep

from jaxgpt.prepare import executors, slurm
from jaxgpt.prepare.executors import Run
from jaxgpt.processes import run_command

Executor = Literal["local", "slurm", "ray"]


def require_executor(executor: Executor, sbatch: Sequence[str]) -> None:
    """Refuse a machine on which the tasks can't run, or options without which SLURM takes no job.

    Raises:
      UsageError: as said.
    """
    if executor == "slurm":
        slurm.require_slurm(_sbatch_options(sbatch))
    elif executor == "ray":
        executors.require_ray()


def open_executor(
    executor: Executor, workers: int, sbatch: Sequence[str], work: Path
) -> contextlib.AbstractContextManager[Run]:
    """What runs the tasks of stages, in a context.

    Args:
      workers: how many at once.
      sbatch: options for SLURM, each name=value.
      work: a folder of theirs.
    """
    if executor == "slurm":
        return slurm.job_arrays(workers, _sbatch_options(sbatch), work)
    return executors.ray(workers) if executor == "ray" else executors.local(workers, work / "workers")


def _sbatch_options(sbatch: Sequence[str]) -> dict[str, str]:
    return dict(option.split("=", 1) for option in sbatch)


class RunCommands(PipelineStep):
    """A stage whose task n is command n, in a process of its own.

    Its exit code is not looked at: what it has made tells whether it is done.
    """

    name = "commands"

    def __init__(self, commands: list[list[str]], outputs: list[Path], lock: Path):
        super().__init__()
        self.commands, self.outputs, self.lock, self.cwd = commands, outputs, lock, Path.cwd()

    def run(self, data: None = None, rank: int = 0, world_size: int = 1) -> None:
        run_command(self.commands[rank], self.cwd, self.outputs[rank], self.lock)
