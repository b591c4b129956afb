"""How glibc's malloc serves XLA on a CPU: the memory of one training step is kept for the next.

XLA takes and frees the temporary memory of a step at each step, 0.6 GB at B=4, T=32. By default malloc maps so much
anew each time, and the system clears it page by page (docs/performance.md has both). Where there is no glibc, or where
the environment says how malloc shall work, nothing is changed.
"""

import ctypes
import os
import time
from typing import Any

# Of malloc.h. They are calls and not environment variables because those count only from before Python starts.
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8


def use_one_heap() -> None:
    """Have all threads share a heap: only that one can hold large blocks. To be called before JAX starts them."""
    _set(M_ARENA_MAX, 1)


def keep_freed_memory() -> None:
    """From here on, neither map large blocks apart nor give freed memory back.

    To be called when the state is in its place: what was large before it would leave holes in the heap.
    """
    _set(M_MMAP_MAX, 0)
    _set(M_TRIM_THRESHOLD, -1)  # never


class FreedMemory:
    """An observer of the training loop on a CPU: it gives XLA a millisecond to free a step's temporary memory.

    Else the next step takes as much again: it is freed a moment after the results are there, without a notification.
    """

    def before_step(self, run: Any) -> None:
        pass

    def after_step(self, run: Any, metrics: dict[str, Any]) -> None:
        time.sleep(0.001)


def _set(parameter: int, value: int) -> None:
    if any(name.startswith(("MALLOC_", "GLIBC_TUNABLES", "LD_PRELOAD")) for name in os.environ):
        return
    mallopt = getattr(ctypes.CDLL(None) if os.name == "posix" else None, "mallopt", None)
    if mallopt:
        mallopt(parameter, value)
