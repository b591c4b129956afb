"""Run a stage's tasks as a SLURM job array, by datatrove."""

import contextlib
import hashlib
import re
import shlex
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from datatrove.executor.slurm import SlurmPipelineExecutor
from loguru import logger

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.prepare.completion import MarksTasks
from jaxgpt.prepare.executors import ROOT, RedactErrors, Run
from jaxgpt.processes import POLL_SECONDS

MEMORY = re.compile(r"([1-9]\d*)G")  # of a core


class JobArray(RedactErrors, MarksTasks, SlurmPipelineExecutor):
    """A stage's tasks as a job array, without datatrove's second job, which adds up counts that nobody reads."""

    def launch_merge_stats(self) -> None:
        pass


def require_slurm(options: Mapping[str, str]) -> None:
    """Refuse a machine without SLURM, or options without which no job can be submitted.

    Raises:
      UsageError: this machine has no sbatch, or an option is missing.
    """
    if not shutil.which("sbatch"):
        raise UsageError("--executor slurm: no sbatch here; run this on a node from which jobs can be submitted")
    if missing := [name for name in ("partition", "time") if name not in options]:
        raise UsageError(f"--executor slurm needs --sbatch {missing[0]}=...")
    if not MEMORY.fullmatch(options.get("mem-per-cpu", "4G")):
        raise UsageError("--sbatch mem-per-cpu: use whole gigabytes, such as mem-per-cpu=4G")


@contextlib.contextmanager
def job_arrays(workers: int, options: Mapping[str, str], work: Path) -> Iterator[Run]:
    """Submit each stage as a job array, and wait until it is done.

    Args:
      workers: how many tasks may run at once.
      options: for sbatch, as `require_slurm` requires them.
      work: the preparation's folder, by which its jobs are named.
    """
    sbatch_options = dict(options)
    partition, limit = sbatch_options.pop("partition"), sbatch_options.pop("time")
    memory, qos = MEMORY.fullmatch(sbatch_options.pop("mem-per-cpu", "4G")), sbatch_options.pop("qos", "")
    root, python = (shlex.quote(str(path)) for path in (ROOT, Path(sys.executable).parent))
    logger.remove()

    def run(pipeline, tasks, logs, done):
        stage = JobArray(
            pipeline,
            tasks,
            limit,
            partition,
            workers=workers,
            logging_dir=str(logs),
            slurm_logs_folder=str(logs / "slurm"),
            job_name=f"jaxgpt-{logs.name}-{_job_suffix(work)}",
            qos=qos,
            mem_per_cpu_gb=int(memory[1]),
            env_command=f"export PYTHONPATH={root}:$PYTHONPATH PATH={python}:$PATH",
            sbatch_args=sbatch_options,
        )
        missing = len(stage.get_incomplete_ranks())
        stage.run()
        polls = 0
        while unfinished := len(stage.get_incomplete_ranks()):
            done(missing - unfinished)
            missing = unfinished
            time.sleep(POLL_SECONDS)
            polls = 0 if _queued(stage.job_id) else polls + 1
            if polls > 20:  # a shared file system may show the last files late
                raise RetryableError(
                    f"SLURM's job {stage.job_id} has ended without {unfinished:,} of its tasks; "
                    f"{logs}/slurm says why; the same command resumes"
                )
        done(missing)

    yield run


def wait_for_jobs(work: Path, say: Callable[[str, str], None]) -> None:
    """Wait until SLURM has no job of an earlier start: a killed start's jobs keep running.

    Raises:
      RetryableError: SLURM does not say which jobs there are.
    """
    announced = False
    while any((work / "stages").glob("*/slurm")):  # one was submitted
        try:
            command = ["squeue", "--me", "--noheader", "--format=%F %j"]
            answer = subprocess.run(command, capture_output=True, text=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", None) or getattr(error, "strerror", None) or "it failed"
            raise RetryableError(
                f"{work}: an earlier start submitted jobs to SLURM, and squeue can't say whether they have ended: "
                f"{reason}; try again where it can"
            ) from None
        jobs = {line.split()[0] for line in answer.splitlines() if line.endswith(f"-{_job_suffix(work)}")}
        if not jobs:
            return
        if not announced:
            numbers = " ".join(sorted(jobs))
            say("waits", f"until SLURM's job {numbers} of an earlier start has ended; scancel {numbers} ends it now")
        announced = True
        time.sleep(POLL_SECONDS)


def _job_suffix(work: Path) -> str:
    return hashlib.sha256(str(work.resolve()).encode()).hexdigest()[:8]


def _queued(job: str) -> bool:
    answer = subprocess.run(["squeue", "--noheader", "--jobs", str(job)], capture_output=True, text=True)
    return bool(answer.stdout.strip())
