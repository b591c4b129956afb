"""Several processes of one run, such as one for each host: who takes part, what they agree on, how all of them end.

The work is done by JAX's own distributed runtime. Every process runs the same program on its own devices; the first one
prints and keeps the log. When one is gone, the others can't go on: JAX ends them within HEARTBEAT_S, whatever they do.
"""

import contextlib
import ctypes
import dataclasses
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

from jaxgpt import console
from jaxgpt.errors import RetryableError, UsageError, require

HEARTBEAT_S = 30  # without a sign of life of a process, the others take it for lost
START_S = 300  # for all processes to appear
GONE = "another process of this run is gone or stands still; start the same command again in every process"
ABSENT = "not all processes came within five minutes; start all of them, and see whether --coordinator is right"
_ends_with = GONE  # what is said where JAX ends this process


@dataclasses.dataclass(frozen=True)
class ProcessInfo:
    """Which of how many processes this one is.

    Attributes:
      count: of processes.
      id: of this one, from 0.
      coordinator: HOST:PORT at which the first one listens; None: SLURM's, which JAX finds.
      devices: which of the host's GPUs are this process's; none named: all.
    """

    count: int = 1
    id: int = 0
    coordinator: str | None = None
    devices: tuple[int, ...] = ()


def detect_process(
    coordinator: str | None, count: int | None, id: int | None, environment: Mapping[str, str] = os.environ
) -> ProcessInfo:
    """Of the flags --coordinator, --num-processes and --process-id, and where they say nothing, of the launcher.

    Open MPI and SLURM (srun) say all but Open MPI's coordinator; an indexed job of Kubernetes says the id alone.

    Raises:
      UsageError: one of them is missing or makes no sense.
    """

    def number(name: str) -> int | None:
        return int(environment[name]) if environment.get(name, "").isdecimal() else None

    launched, local, of_slurm = (None, number("JOB_COMPLETION_INDEX")), None, False
    if number("OMPI_COMM_WORLD_SIZE") is not None:
        launched = number("OMPI_COMM_WORLD_SIZE"), number("OMPI_COMM_WORLD_RANK")
        if number("OMPI_COMM_WORLD_LOCAL_SIZE") != 1:
            local = number("OMPI_COMM_WORLD_LOCAL_RANK")
    elif number("SLURM_STEP_NUM_TASKS") is not None:  # of srun; a batch script itself is one process
        launched, of_slurm = (number("SLURM_STEP_NUM_TASKS"), number("SLURM_PROCID")), True
        if number("SLURM_STEP_NUM_NODES") != launched[0]:
            local = number("SLURM_LOCALID")
    if count is None and coordinator is None and id is None and launched[0] in (None, 1):
        return ProcessInfo()
    count, id = (mine if mine is not None else theirs for mine, theirs in zip((count, id), launched, strict=True))
    given = {"--coordinator HOST:PORT": coordinator or of_slurm or None, "--num-processes": count, "--process-id": id}
    missing = [flag for flag, value in given.items() if value is None]
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
def distributed_context(here: ProcessInfo, out: Path) -> Iterator[Path]:
    """A context in which this process is one of the run's. It gives the folder for what this process alone writes.

    That is the run's folder for the first process, and one that is deleted afterwards for the others, which print
    nothing either but one line and errors. What JAX's runtime says goes to <out>/runtime-<id>.log: it says much when
    another process was lost.

    Where there are several, no error leaves this context: the process does, at once, with the error's line and code.
    """
    if here.count == 1:
        yield out
        return
    stack = contextlib.ExitStack()
    try:
        own = out
        if here.id > 0:
            own = Path(tempfile.mkdtemp(prefix="jaxgpt-"))
            stack.callback(shutil.rmtree, own, ignore_errors=True)
        _end_in_one_line(out, here.id, stack.close)
        where = f", which meet at {here.coordinator}" if here.coordinator else ""
        with contextlib.suppress(OSError):  # an output that takes nothing: a process that has joined ends all at once
            print(f"process   {here.id} of {here.count}{where}; that of id 0 tells how the run goes", flush=True)
        if here.id > 0:
            nowhere = stack.enter_context(open(os.devnull, "w"))  # noqa: SIM115 -- the stack closes it
            stack.enter_context(contextlib.redirect_stdout(nowhere))
        _initialize(here)
        yield own
    except BaseException as error:
        # JAX would wait for the others at the exit, and they for us: they learn of it by our absence.
        stack.close()
        os._exit(print_error(error))
    stack.close()


def _initialize(here: ProcessInfo) -> None:
    import jax

    jax.config.update("jax_enable_preemption_service", False)  # which would take SIGTERM from signals.stop_signals
    if here.id == 0 and here.coordinator:
        _require_free(here.coordinator)
    global _ends_with
    _ends_with = ABSENT
    try:
        jax.distributed.initialize(
            here.coordinator,
            here.count,
            here.id,
            local_device_ids=list(here.devices),  # None would be one for each process
            initialization_timeout=START_S,
            heartbeat_timeout_seconds=HEARTBEAT_S,
        )
    except (RuntimeError, ValueError) as error:
        raise RetryableError(f"the processes did not find each other: {str(error).splitlines()[0]}") from None
    _ends_with = GONE


def print_error(error: BaseException) -> int:
    """Print what ends this process, and return its exit code."""

    def again(_: object) -> int:
        text = str(error)
        if any(sign in text for sign in ("Gloo", "NCCL", "heartbeat", "coordination service")):
            os.write(2, f"{text}\n".encode())  # the log of what JAX says
            raise RetryableError(GONE)
        raise error

    try:
        return console.run(again, [])
    except BaseException:  # a bug stays loud
        traceback.print_exc()
        return 1


def _require_free(coordinator: str) -> None:
    """Refuse a port that is taken, at which JAX's server would crash."""
    both = {"family": socket.AF_INET6, "dualstack_ipv6": True} if socket.has_dualstack_ipv6() else {}
    try:
        socket.create_server(("", int(coordinator.rpartition(":")[2])), **both).close()
    except OSError as error:
        reason = f"{os.strerror(error.errno)}; use another port, unless another process has --process-id 0 as well"
        raise RetryableError(f"--coordinator {coordinator}: {reason}") from None


def _end_in_one_line(out: Path, id: int, before: Callable[[], None]) -> None:
    """Have the end that JAX's runtime makes of this process when another is lost be one line and exit code 75.

    It is an abort out of a thread of its own, which no Python code could catch, after some forty lines on stderr: these
    go to <out>/runtime-<id>.log.
    """
    log = out / f"runtime-{id}.log"
    try:
        out.mkdir(parents=True, exist_ok=True)
        file = log.open("ab")
    except OSError:  # which is told of where it matters
        log = Path(tempfile.gettempdir()) / f"jaxgpt-runtime-{id}.log"
        file = log.open("ab")
    with file:
        stderr = os.dup(2)
        sys.stdout, sys.stderr = (os.fdopen(os.dup(n), "w", buffering=1, errors="replace") for n in (1, 2))
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)

    def abort(_: int) -> None:
        os.write(
            stderr, f"error: {_ends_with}; JAX's own words, which may have another reason, are in {log}\n".encode()
        )
        before()
        os._exit(RetryableError.exit_code)

    _end_in_one_line.handler = ctypes.CFUNCTYPE(None, ctypes.c_int)(abort)  # kept: C code holds no reference
    ctypes.CDLL(None).signal(int(signal.SIGABRT), ctypes.cast(_end_in_one_line.handler, ctypes.c_void_p))


def max_across_processes(number: int) -> int:
    """The highest of all processes' numbers. All of them must ask."""
    import jax
    from jax.experimental import multihost_utils

    return int(multihost_utils.process_allgather(number).max()) if jax.process_count() > 1 else number


def all_processes(good: bool) -> bool:
    """Whether this is true in every process. All of them must ask."""
    return not max_across_processes(not good)


def require_same_on_all_processes(facts: Mapping[str, object]) -> None:
    """Refuse processes that were not given the same. All of them must ask.

    Raises:
      UsageError: in every process; it names what is not the same, and what it is here.
    """
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    if jax.process_count() == 1:
        return
    mine = np.array([zlib.crc32(repr(fact).encode()) >> 1 for fact in facts.values()], np.int32)
    every = multihost_utils.process_allgather(mine)  # (processes, facts)
    differing = [name for name, same in zip(facts, (every == every[0]).all(0), strict=True) if not same]
    if differing:
        here = ", ".join(f"{name} is {facts[name]} here" for name in differing)
        raise UsageError(f"not all processes have the same flags and text: {here}; start all with the same command")


def require_shared(folder: Path) -> None:
    """Refuse a folder that is not the same one for all processes. All of them must ask."""
    import jax

    if jax.process_count() == 1:
        return
    sign = folder / f".shared-{broadcast_from_process_0(int.from_bytes(os.urandom(3), 'big'))}"
    if jax.process_index() == 0:
        sign.touch()
    all_processes(True)  # that it is there
    seen = sign.exists()
    shared = all_processes(seen)
    if jax.process_index() == 0:
        sign.unlink(missing_ok=True)
    if not shared:
        where = f" of process {jax.process_index()} is not that of process 0" if not seen else ""
        raise UsageError(f"--out {folder}{where}: all processes must write to one folder; give one that all can reach")


def broadcast_from_process_0(number: int) -> int:
    """The first process's number. All of them must ask."""
    import jax
    import numpy as np
    from jax.experimental import multihost_utils

    return int(multihost_utils.broadcast_one_to_all(np.int32(number))) if jax.process_count() > 1 else number


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
