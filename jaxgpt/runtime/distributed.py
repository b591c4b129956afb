"""Several processes of one run, such as one for each host: who takes part, what they agree on, how all of them end.

The work is done by JAX's own distributed runtime. Every process runs the same program on its own devices; the first one
prints and keeps the log. When one is gone, the others can't continue: JAX ends them within HEARTBEAT_S.
"""

import contextlib
import ctypes
import dataclasses
import functools
import os
import shutil
import signal
import socket
import sys
import tempfile
import traceback
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from jaxgpt import console, progress_bar, signals
from jaxgpt.errors import RetryableError, UsageError, require
from jaxgpt.files import open_nofollow
from jaxgpt.runtime.process_number import claim

HEARTBEAT_S = 30  # without a heartbeat of a process, the others take it for lost
START_S = 300  # for all processes to appear
GONE = "another process of this run is gone or hangs; run the same command again in every process to resume"
ABSENT = "not all processes started within five minutes; start all, each with its own --process-id; check --coordinator"
_abort_message = GONE  # printed when JAX ends this process


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """This process's place among the processes of a run.

    Attributes:
      count: the number of processes.
      id: this process's number, from 0.
      coordinator: HOST:PORT at which process 0 listens; None: SLURM's, which JAX finds.
      devices: this process's GPUs among those of the host; empty: all.
    """

    count: int = 1
    id: int = 0
    coordinator: str | None = None
    devices: tuple[int, ...] = ()


def detect_process(
    coordinator: str | None, count: int | None, id: int | None, environment: Mapping[str, str] = os.environ
) -> ProcessInfo:
    """This process, by the flags --coordinator, --num-processes and --process-id; the launcher sets those left out.

    Open MPI and SLURM (srun) set all but Open MPI's coordinator; an indexed job of Kubernetes sets the id alone.

    Raises:
      UsageError: one of them is missing or makes no sense.
    """

    def read_int(name: str) -> int | None:
        return int(environment[name]) if environment.get(name, "").isdecimal() else None

    launched, local, of_slurm = (None, read_int("JOB_COMPLETION_INDEX")), None, False
    if read_int("OMPI_COMM_WORLD_SIZE") is not None:
        launched = read_int("OMPI_COMM_WORLD_SIZE"), read_int("OMPI_COMM_WORLD_RANK")
        if read_int("OMPI_COMM_WORLD_LOCAL_SIZE") != 1:
            local = read_int("OMPI_COMM_WORLD_LOCAL_RANK")
    elif read_int("SLURM_STEP_NUM_TASKS") is not None:  # of srun; a batch script itself is one process
        launched, of_slurm = (read_int("SLURM_STEP_NUM_TASKS"), read_int("SLURM_PROCID")), True
        if read_int("SLURM_STEP_NUM_NODES") != launched[0]:
            local = read_int("SLURM_LOCALID")
    if count is None and coordinator is None and id is None and launched[0] in (None, 1):
        return ProcessInfo()
    count = launched[0] if count is None else count
    id = launched[1] if id is None else id
    required = {
        "--coordinator HOST:PORT": coordinator or of_slurm or None,
        "--num-processes": count,
        "--process-id": id,
    }
    missing = [flag for flag, value in required.items() if value is None]
    if missing:
        raise UsageError(f"a run of several processes needs {', '.join(missing)} as well; docs/scaling.md has examples")
    require(count >= 1, "num_processes", count, "at least 1")
    if not 0 <= id < count:
        raise UsageError(
            f"--process-id {id} is out of range: with --num-processes {count} it must be from 0 to {count - 1}"
        )
    host, _, port = (coordinator or "host:1").rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise UsageError(f"--coordinator {coordinator} is not HOST:PORT: use the first process's host and a free port")
    return ProcessInfo(count, id, coordinator, () if local is None else (local,))


@contextlib.contextmanager
def distributed_context(process: ProcessInfo, out: Path) -> Iterator[Path]:
    """A context in which this process is one of the run's. It gives the folder for what this process alone writes.

    That is the run's folder for the first process, and one that is deleted afterwards for the others, which print
    nothing but one line and errors. JAX's runtime logs to <out>/runtime-<id>.log: it prints much when another process
    was lost.

    Where there are several, no error leaves this context: the process does, at once, with the error's line and code.
    """
    if process.count == 1:
        yield out
        return
    stack = contextlib.ExitStack()

    def leave(error: BaseException) -> None:
        stack.close()
        os._exit(print_error(error))

    try:
        process_dir = out
        if process.id > 0:
            process_dir = Path(tempfile.mkdtemp(prefix="jaxgpt-"))
            remove = functools.partial(shutil.rmtree, process_dir, ignore_errors=True)
            stack.callback(remove)
            stack.enter_context(signals.before_exit(remove))
        _report_abort_in_one_line(out, process.id, stack.close)
        where = f", which meet at {process.coordinator}" if process.coordinator else ""
        with contextlib.suppress(OSError):  # an output that takes nothing: a process that has joined ends all at once
            console.say("process", f"{process.id} of {process.count}{where}; process 0 prints the progress")
        if process.id > 0:
            devnull = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 -- the stack closes it
            stack.enter_context(contextlib.redirect_stdout(devnull))
            stack.enter_context(progress_bar.hide())
        with claim(out, process.id, leave):
            _initialize(process)
        yield process_dir
    except BaseException as error:
        leave(error)  # JAX would wait for the others at the exit, and they for us: they learn of it by our absence
    stack.close()


def _initialize(process: ProcessInfo) -> None:
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # which would take SIGTERM from signals.stop_signals
    if process.id == 0 and process.coordinator:
        _require_free(process.coordinator)
    global _abort_message
    _abort_message = ABSENT
    try:
        jax.distributed.initialize(
            process.coordinator,
            process.count,
            process.id,
            local_device_ids=list(process.devices),  # None would be one for each process
            initialization_timeout=START_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise RetryableError(f"the processes did not find each other: {str(error).splitlines()[0]}") from None
    _abort_message = GONE


def print_error(error: BaseException) -> int:
    """Print what ends this process, and return its exit code."""

    def reraise(_: object) -> int:
        text = str(error)
        if any(marker in text for marker in ("Gloo", "NCCL", "heartbeat", "coordination service")):
            os.write(2, f"{text}\n".encode())  # the log of what JAX says
            raise RetryableError(GONE)
        raise error

    try:
        return console.run(reraise, [])
    except BaseException:  # a bug stays loud
        traceback.print_exc()
        return 1


def _require_free(coordinator: str) -> None:
    """Refuse a port that is taken, at which JAX's server would crash."""
    dual_stack = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2])), **dual_stack).close()
    except OSError as error:
        reason = f"{os.strerror(error.errno)}; use another port, unless another process has --process-id 0 as well"
        raise RetryableError(f"--coordinator {coordinator}: {reason}") from None


def _report_abort_in_one_line(out: Path, id: int, cleanup: Callable[[], None]) -> None:
    """Report in one line, with exit code 75, that JAX's runtime aborts this process because another is lost.

    JAX aborts from its own thread, which no Python code can catch, after some forty lines on stderr: these go to
    <out>/runtime-<id>.log.
    """
    log = out / f"runtime-{id}.log"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = open_nofollow(log, "ab")
    except OSError:  # reported later, where the folder is needed
        log = Path(tempfile.gettempdir()) / f"jaxgpt-runtime-{id}.log"
        file = open_nofollow(log, "ab")
    with file:
        stderr = os.dup(2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, errors="replace") for n in (1, 2))
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def abort(_: int) -> None:
        reason = f"{_abort_message}; JAX's own message, which may give another reason, is in {log}"
        os.write(stderr, f"error: {console.escape(reason)}\n".encode())
        cleanup()
        os._exit(RetryableError.exit_code)

    _report_abort_in_one_line.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(abort)  # kept: C code holds no reference
    ctypes.CDLL(None).signal(int(signal.SIGABRT), ctypes.cast(_report_abort_in_one_line.handler, ctypes.c_void_p))


def max_across_processes(value: int) -> int:
    """The highest of all processes' values. All of them must call this."""
    import jax
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(value).max()) if jax.process_count() > 1 else value


def all_processes(condition: bool) -> bool:
    """Whether a condition is true in every process. All of them must call this."""
    return not max_across_processes(not condition)


def require_same_on_all_processes(facts: Mapping[str, object]) -> None:
    """Refuse processes with different facts. All of them must call this.

    Raises:
      UsageError: in every process; it names what differs, and this process's value.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    hashes = np.array([zlib.crc32(repr(fact).encode()) >> 1 for fact in facts.values()], np.int32)
    all_hashes = multihost_utils.process_allgather(hashes)  # (processes, facts)
    differing = [name for name, equal in zip(facts, (all_hashes == all_hashes[0]).all(0), strict=True) if not equal]
    if differing:
        values = ", ".join(f"{name} is {facts[name]} here" for name in differing)
        raise UsageError(f"not all processes have the same flags and text: {values}; start all with the same command")


def require_shared(folder: Path) -> None:
    """Refuse a folder that is not the same one for all processes. All of them must call this."""
    import jax

    if jax.process_count() == 1:
        return
    marker = folder / f".shared-{broadcast_from_process_0(int.from_bytes(os.urandom(3), 'big'))}"
    if jax.process_index() == 0:
        marker.touch(exist_ok=False)  # nor through a link
    all_processes(True)  # wait for it
    visible = marker.exists()
    shared = all_processes(visible)
    if jax.process_index() == 0:
        marker.unlink(missing_ok=True)
    if not shared:
        where = f" of process {jax.process_index()} is not that of process 0" if not visible else ""
        raise UsageError(f"--out {folder}{where}: all processes must write to one folder; give one that all can reach")


def broadcast_from_process_0(value: int) -> int:
    """The first process's value. All of them must call this."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(value))) if jax.process_count() > 1 else value


def make_stop_consensus(received: Sequence[int]) -> Callable[[], bool]:
    """A function that every process calls at each step: whether any of them has received a signal.

    Among several processes it answers for the step before, so that no device waits for the answer.
    """
    import jax
    import numpy as np
    from jax.sharding import Mesh, NamedSharding, PartitionSpec

    from jaxgpt.runtime.device import put

    if jax.process_count() == 1:
        return lambda: bool(received)
    mesh = Mesh(np.array(jax.devices()), "devices")
    sharding = NamedSharding(mesh, PartitionSpec("devices"))
    any_of = jax.jit(lambda votes: votes.any(), out_shardings=NamedSharding(mesh, PartitionSpec()))
    pending = None

    def stop_requested() -> bool:
        nonlocal pending
        votes = put(np.full(jax.local_device_count(), bool(received)), to=sharding)
        pending, answer = any_of(votes), pending
        return answer is not None and bool(jax.device_get(answer))

    return stop_requested
