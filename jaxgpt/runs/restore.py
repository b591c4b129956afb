"""Which checkpoint to restore: the newest one that is not corrupt, the same for all processes."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

from jaxgpt.errors import CorruptError
from jaxgpt.runtime.distributed import broadcast_from_process_0

T = TypeVar("T")


def list_steps(folder: Path) -> list[int]:
    """Steps done in the checkpoints of a folder, corrupt or not, the newest first."""
    names = [path.name for path in folder.iterdir()] if folder.is_dir() else []
    return sorted((int(name) for name in names if name.isdecimal() and str(int(name)) == name), reverse=True)


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
