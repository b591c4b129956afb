"""A trace of some training steps: what ran when, on the host and on the device, under the names of the code."""

from pathlib import Path
from typing import Any

import jax

FIRST = 3  # steps of this process before the trace begins: by then everything is compiled and warm


class Profiler:
    """An observer of the training loop that traces `steps` of its steps with JAX's profiler into a folder; 0: none.

    It is a context: a loop that ends early cuts the trace short.

    Attributes:
      files: the folder of the trace, once it is written; None before.
    """

    def __init__(self, folder: Path, steps: int):
        self._folder, self._steps, self._running = folder, steps, False
        self._step = 0  # of this process
        self.files: Path | None = None

    def before_step(self, run: Any) -> None:
        if self._steps and self._step == FIRST:
            jax.block_until_ready(run.state)
            jax.profiler.start_trace(self._folder)
            self._running = True
        elif self._running and self._step == FIRST + self._steps:
            jax.block_until_ready(run.state)
            self._stop()
        self._step += 1

    def after_step(self, run: Any, metrics: dict[str, Any]) -> None:
        pass

    def __enter__(self) -> "Profiler":
        return self

    def __exit__(self, *_: object) -> None:
        if self._running:
            self._stop()

    def _stop(self) -> None:
        self._running = False
        jax.profiler.stop_trace()
        self.files = max((self._folder / "plugins" / "profile").iterdir())  # named by the time
