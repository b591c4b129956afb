"""Ways to run a stage's tasks: in local processes, or on a Ray cluster; by datatrove. SLURM's is in slurm.py."""

import concurrent.futures
import contextlib
import copy
import importlib.util
import logging
import multiprocessing
import os
import signal
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from datatrove.executor.base import DistributedEnvVars, PipelineExecutor
from datatrove.executor.ray import RayPipelineExecutor
from datatrove.pipeline.base import PipelineStep
from loguru import logger

from jaxgpt import signals
from jaxgpt.console import note, plural
from jaxgpt.errors import JaxgptError, RetryableError, UsageError
from jaxgpt.files import owner_only
from jaxgpt.locks import try_lock
from jaxgpt.prepare.completion import MarksTasks
from jaxgpt.prepare.forkserver import run_forkserver

try:
    import resource
except ImportError:  # Windows has no such limits
    resource = None

ROOT = Path(__file__).parents[2]
# Runs those of the tasks 0, 1, ... of a pipeline that are not done yet. The folder has their logs, and marks the done
# ones; the function is called with the number of tasks that have ended since its last call.
Run = Callable[[list[PipelineStep], int, Path, Callable[[int], None]], None]


class RedactErrors:
    """The part of an executor of datatrove that keeps documents out of its logs and errors.

    Of a library's error they have the type and the place. Its message may have a text, and so may the variables that
    loguru would show beside its traceback, and what other libraries print. datatrove's own log goes to its file only.
    """

    def _run_for_rank(self, rank: int, *rest: Any, **more: Any) -> Any:
        logger.configure(patcher=redact)
        # A cluster's workers do not have the command's umask.
        with owner_only(), open(os.devnull, "w") as devnull, contextlib.redirect_stderr(devnull):
            try:
                return super()._run_for_rank(rank, *rest, **more)
            except (JaxgptError, OSError, MemoryError):
                raise
            except Exception as error:  # of a library, on a document that it was not made for
                log = self.logging_dir.resolve_paths(f"logs/task_{rank:05d}.log")
                last = traceback.extract_tb(error.__traceback__)[-1]
                reason = f"{type(error).__name__} in {Path(last.filename).name}, line {last.lineno}"
                raise JaxgptError(f"{reason}; {log} says more; this is an error of the program, not yours") from None
            finally:
                logger.remove()  # what datatrove logs later would go to the closed file


def redact(record: dict[str, Any]) -> None:
    """A patcher of loguru: an exception's type and places, without its message and its variables."""
    if exception := record["exception"]:
        record["message"] = f"{exception.type.__name__}\n{''.join(traceback.format_tb(exception.traceback))}"
        record["exception"] = None


class RayTasks(RedactErrors, MarksTasks, RayPipelineExecutor):
    """A stage's tasks on a Ray cluster."""


class Tasks(RedactErrors, MarksTasks, PipelineExecutor):
    """A stage's tasks; `task` runs one in this process."""

    def __init__(self, pipeline: list[PipelineStep], tasks: int, logs: Path):
        super().__init__(pipeline, str(logs))
        self.tasks = tasks

    @property
    def world_size(self) -> int:
        return self.tasks

    def get_distributed_env(self, node_rank: int = -1) -> DistributedEnvVars:
        names = ("node_ips", "cpus_per_task", "mem_per_cpu", "gpus_on_node")
        return DistributedEnvVars(**{f"datatrove_{name}": "" for name in names}, datatrove_executor="LOCAL")

    def run(self) -> None:
        raise NotImplementedError("local() runs them")

    def task(self, rank: int) -> None:
        copy.deepcopy(self)._run_for_rank(rank)


@contextlib.contextmanager
def local(workers: int, lock: Path) -> Iterator[Run]:
    """Run tasks in `workers` processes, or in this process if that is 1 or the system has none of what they need.

    datatrove's own executor waits for ever for a worker that was killed, for lack of memory for example; and its
    workers outlive a parent that was killed, and write into the files of the next start.

    Args:
      lock: a file that every worker locks while it lives; see `processes.wait_for_workers`.

    Raises:
      RetryableError: a worker was killed.
    """
    logger.remove()
    pool, parent = _make_pool(workers, lock) if workers > 1 else (None, None)
    if pool is None:

        def run_in_process(pipeline, tasks, logs, done):
            stage = Tasks(pipeline, tasks, logs)
            _raise_open_file_limit()
            for rank in stage.get_incomplete_ranks():
                stage.task(rank)
                done(1)

        yield run_in_process
        return

    def run_in_pool(pipeline, tasks, logs, done):
        stage = Tasks(pipeline, tasks, logs)
        try:
            for future in concurrent.futures.as_completed(
                [pool.submit(stage.task, rank) for rank in stage.get_incomplete_ranks()]
            ):
                future.result()
                done(1)
        except BrokenProcessPool:
            raise RetryableError(
                "a worker was killed, perhaps for lack of memory; the same command resumes, with --workers 1 in less"
            ) from None

    try:
        with run_forkserver():
            yield run_in_pool
    except BaseException:
        for process in list(pool._processes.values()):  # an error leaves them running
            process.kill()
        raise
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        parent.close()


def _make_pool(workers: int, lock: Path) -> tuple[ProcessPoolExecutor | None, Connection]:
    """A pool, None where the system has no semaphores for it, and what its workers wait for the end of."""
    context = multiprocessing.get_context("forkserver")
    alive, parent = context.Pipe(duplex=False)
    try:
        return ProcessPoolExecutor(workers, context, _worker, (alive, lock)), parent
    except (OSError, ImportError, NotImplementedError) as error:
        reason = getattr(error, "strerror", None) or error
        note(f"processes need semaphores, which Linux keeps in /dev/shm: {reason}; --workers 1 in place of {workers}")
        return None, parent


def _raise_open_file_limit() -> None:
    """Let the process open as many files as the system allows: datatrove opens up to three for every piece."""
    if resource:
        _, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))


def _worker(alive: Connection, lock: Path) -> None:
    """Set up a worker: it leaves Ctrl-C to its parent, and ends when its parent ends, however that happens."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _raise_open_file_limit()
    lock_file = open(lock, "rb")  # noqa: SIM115 -- open, and locked, to the end of the process
    with contextlib.suppress(UsageError):  # too few locks: the folder's own was granted
        if not try_lock(lock_file, shared=True):
            os._exit(1)  # the next start is there: this one's parent is gone

    def watch() -> None:
        with lock_file, contextlib.suppress(EOFError, OSError):
            alive.recv()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def require_ray() -> None:
    if importlib.util.find_spec("ray") is None:
        raise UsageError("--executor ray needs Ray: pip install ray")


@contextlib.contextmanager
def ray(workers: int) -> Iterator[Run]:
    """Run tasks on the Ray cluster at $RAY_ADDRESS, or on one started on this machine.

    Raises:
      UsageError: the cluster does not respond.
    """
    import ray

    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    logger.remove()
    handlers = {number: signal.getsignal(number) for number in signals.SIGNALS}

    try:
        ray.init(
            runtime_env={"env_vars": {"PYTHONPATH": path}},
            log_to_driver=False,
            logging_level=logging.ERROR,
            include_dashboard=False,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise UsageError(f"--executor ray: {' '.join(str(error).split())[:200]}; check RAY_ADDRESS") from None
    for number, handler in handlers.items():  # Ray's own of SIGTERM prints where in C++ it came
        signal.signal(number, handler)

    def run(pipeline, tasks, logs, done):
        stage = RayTasks(pipeline, tasks, workers, logging_dir=str(logs), mem_per_cpu_gb=1)
        missing = len(stage.get_incomplete_ranks())
        stage.run()
        if unfinished := stage.get_incomplete_ranks():
            raise RetryableError(
                f"{plural(len(unfinished), 'task')} failed on the Ray cluster; {logs}/logs says why; "
                "the same command resumes"
            )
        done(missing)

    try:
        yield run
    finally:
        ray.shutdown()
