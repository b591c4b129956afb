"""Which checkpoint to restore: the newest one that is not corrupt, the same for all processes."""

import errno
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import jax

from jaxgpt.errors import CheckpointError, CorruptError, JaxgptError, RetryableError
from jaxgpt.runs.folder import list_steps
from jaxgpt.runs.progress import corrupt_error, format_error
from jaxgpt.runtime.device import free_memory
from jaxgpt.runtime.distributed import broadcast_from_process_0, max_across_processes
from jaxgpt.runtime.mesh import device_bytes

T = TypeVar("T")
# Errors of the system that say nothing about the files themselves.
TRANSIENT_ERRNOS = (errno.EACCES, errno.EPERM, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EIO, errno.ESTALE)


def candidates(folder: Path, at_most: int | None = None) -> Iterator[int]:
    """The checkpoints of a folder, the newest first, as process 0 sees them; all processes must iterate alike.

    Args:
      at_most: no checkpoint after this step.
    """
    seen: set[int] = set()
    while True:
        steps = (step for step in list_steps(folder) if step not in seen and (at_most is None or step <= at_most))
        step = broadcast_from_process_0(next(steps, -1))
        if step < 0:
            return
        seen.add(step)
        yield step


def read_first_valid(steps: Iterable[int], read: Callable[[int], T]) -> tuple[T | None, dict[int, CorruptError]]:
    """What `read` returns for the first checkpoint that is not corrupt, or None; and the corrupt ones before it."""
    corrupt: dict[int, CorruptError] = {}
    for step in steps:
        try:
            return read(step), corrupt
        except CorruptError as error:
            corrupt[step] = error
    return None, corrupt


def read_on_all_processes(read: Callable[[], Any], where: Path) -> Any:
    """Read on every process; a failure of one fails all of them."""
    result = error = None
    try:
        result = read()
    except Exception as raised:  # orbax raises KeyError, ValueError, OSError and bare Exception for corrupt files
        error = _classify_error(where, raised)
    kind = max_across_processes(0 if error is None else 1 if isinstance(error, CorruptError) else 2)
    if kind == 2 and isinstance(error, CorruptError | None):
        error = CheckpointError(f"{where} can't be read by another process; see its error")
    elif kind == 1 and error is None:
        error = corrupt_error(where, "another process can't read its part")
    if error:
        raise error
    return result


def require_shapes(stored: Mapping[str, tuple[int, ...]], like: Any, where: Path) -> None:
    """Refuse a checkpoint whose arrays don't have the shapes of `like`, or memory that can't take these.

    Orbax would make the arrays that it is asked for first, and leave out those that are not there.

    Args:
      stored: the shapes of the checkpoint's arrays, by their names with dots.
      like: shapes, dtypes and shardings.
      where: the checkpoint.

    Raises:
      CorruptError: it names the first array that differs.
      RetryableError: with what is needed and what is free.
    """
    for path, leaf in jax.tree_util.tree_leaves_with_path(like):
        name = jax.tree_util.keystr(path, simple=True, separator=".")
        if (shape := stored.get(name)) != leaf.shape:
            state = "is missing" if shape is None else f"has the shape {shape}"
            name = name.removesuffix(".value")
            raise corrupt_error(where, f"{name} {state}, and the model that is asked for has {leaf.shape}")
    needed, free = device_bytes(like), free_memory()
    if needed > free:
        raise RetryableError(f"out of memory: {where} needs {needed / 1e9:.2f} GB, and {free / 1e9:.2f} GB are free")


def _classify_error(where: Path, error: Exception) -> Exception:
    """What a failure to read means: that the checkpoint is corrupt, or that the machine can't read now."""
    if isinstance(error, JaxgptError | MemoryError | jax.errors.JaxRuntimeError):
        return error
    if isinstance(error, OSError) and error.errno in TRANSIENT_ERRNOS:
        return CheckpointError(
            f"{where} can't be read ({format_error(error)}); fix that, or move it away to resume from the one before it"
        )
    return corrupt_error(where, format_error(error))
