"""A trace of some training steps: what ran when, on the host and on the device, under the names of the code."""

from pathlib import Path
from typing import Any

import jax

FIRST = 3  # steps of this process before the trace begins: by then everything is compiled and warm


class Trace:
    """A context for the training loop that traces `steps` of its steps with JAX's profiler into a folder; 0: none.

    Attributes:
      files: the folder of the trace, once it is written; None before. A loop that ends early cuts the trace short.
    """

    def __init__(self, folder: Path, steps: int):
        self._folder, self._steps, self._running = folder, steps, False
        self.files: Path | None = None

    def before(self, step: int, state: Any) -> None:
        """To be called before a step is dispatched, with its number in this process, from 0, and its state."""
        if self._steps and step == FIRST:
            jax.block_until_ready(state)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and step == FIRST + self._steps:
            jax.block_until_ready(state)
            self._stop()

    def __enter__(self) -> "Trace":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        self.files = max((self._folder / "plugins" / "profile").iterdir())  # named by the time
