"""What a run tells: a row a step on the terminal, the same in log.jsonl, and a progress line."""

import collections
import contextlib
import json
import math
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import jax
import rich.progress

from jaxgpt.errors import NumericsError
from jaxgpt.runs.folder import is_at, row_of
from jaxgpt.runtime.distributed import of_the_first
from jaxgpt.training import validation

HEADER = " step |     loss |{all_heads} grad norm |       lr |       ms |  tokens/s"
ROW = "{step:5d} | {loss:8.4f} |{all_heads} {grad_norm:9.4f} | {lr:8.2e} | {step_ms:8.1f} | {tokens_per_s:9,.0f}"


class Report:
    """A context for the training loop. It reads the metrics of a step when the next one has been dispatched.

    That way the device always has work while the host waits, formats and prints. Rows that the log can't take now, on a
    full disk for one, are kept and written with a later one; leaving the context is the last time to try.

    Args:
      log: the log.jsonl of the run; rows of steps from `start` on, left by a run that was killed, are cut off.
      start: the first step of this process.
      steps: the length of the run.
      skip: how many steps in a row may have a loss or gradient norm that is not finite.
      heads: how many tokens ahead are predicted; of several, the sum of their losses is shown too.
    """

    def __init__(self, log: Path, start: int, steps: int, skip: int = 0, heads: int = 1):
        self._skip, self._bad, self._heads = skip, 0, heads
        self._path, self._log = log, open(log, "ab", buffering=0)  # noqa: SIM115 -- closed in __exit__
        self._waiting: list[bytes] = []  # rows that the log could not take yet
        self._written = 0  # bytes of the first of them that it took
        self._told = False  # whether that was said
        self.lost = ""  # what is to be said, after the context, of rows that it never took
        self._cut(start)
        self._bad = of_the_first(self._bad)  # which alone has the log, of several processes
        self._pending: tuple | None = None  # the arguments of `add`
        self._rows = 0
        self._losses: collections.deque[float] = collections.deque(maxlen=10)
        self._bar = rich.progress.Progress(
            rich.progress.MofNCompleteColumn(),
            rich.progress.BarColumn(),
            rich.progress.TimeElapsedColumn(),
            "elapsed,",
            rich.progress.TimeRemainingColumn(),
            "left",
            transient=True,
            refresh_per_second=2,
        )
        self._bar.disable = not self._bar.console.is_terminal
        self._task = self._bar.add_task("", total=steps, completed=start)

    def __enter__(self) -> "Report":
        self._clock = time.perf_counter()
        self._bar.start()
        print(HEADER.format(all_heads=" all heads |" if self._heads > 1 else ""), flush=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._bar.stop()
        if problem := self._write_rows():
            self.lost = f"{self._path}: {problem}; rows are lost: the last {len(self._waiting):,}"
            print(f"note      {self.lost}", flush=True)
        self._log.close()

    @contextlib.contextmanager
    def aside(self) -> Iterator[None]:
        """A context for what is no part of any step's time."""
        begun = time.perf_counter()
        yield
        self._clock += time.perf_counter() - begun

    def add(
        self,
        facts: dict[str, Any],
        tokens: int,
        metrics: dict[str, jax.Array],
        measured: Mapping[str, float] = MappingProxyType({}),
    ) -> None:
        """Take a step that was just dispatched, and write the one before it.

        Args:
          facts: what the host knows of the step: step, lr, position, tokens_seen.
          tokens: how many it trains on.
          metrics: the device's part, as of step.train_step; at times state, a fingerprint.
          measured: on what is held out, after the step, if that was done: as heldout.measured gives it.

        Raises:
          NumericsError: the loss or gradient norm of the step before is not finite, and that of `skip` before it.
        """
        before, self._pending = self._pending, (facts, tokens, metrics, measured)
        if before:
            self._write(*before)

    def flush(self) -> None:
        """Wait for the last step and write it."""
        before, self._pending = self._pending, None
        if before:
            self._write(*before)

    def summary(self) -> str:
        """The loss over the last ten rows, and the mean speed without the first row, in which the step was compiled."""
        step_ms = self._ms / max(self._rows - 1, 1)
        loss = sum(self._losses) / len(self._losses) if self._losses else math.nan
        speed = f"{step_ms:,.1f} ms a step, {1000 * self._tokens / self._ms:,.0f} tokens/s"
        return f"loss {loss:.4f} (mean of the last {len(self._losses)} steps), {speed}"

    def _write(
        self, facts: dict[str, Any], tokens: int, metrics: dict[str, jax.Array], measured: Mapping[str, float]
    ) -> None:
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        state = {"state": f"{values.pop('state'):08x}"} if "state" in values else {}
        now = time.perf_counter()
        step_ms, self._clock = 1000 * (now - self._clock), now
        good = all(math.isfinite(value) for value in values.values())
        self._bad = 0 if good else self._bad + 1
        if self._bad > self._skip:
            raise NumericsError(
                f"step {facts['step']}: loss {values['loss']}, gradient norm {values['grad_norm']}: not finite; "
                "the run ends here. Start over (--fresh) with a lower --lr, a --warmup-ratio or --grad-clip 1, "
                f"or go on past such steps with --skip-bad-steps {self._skip + 1}"
            )
        speed = {"step_ms": round(step_ms, 3), "tokens_per_s": round(1000 * tokens / step_ms, 1)}
        val = {f"val_{name}": value for name, value in measured.items()}
        row = {"step": facts["step"], "loss": values["loss"], **values, **facts, **speed, **state, **val}
        unknown = {name: None for name, value in (values | val).items() if not math.isfinite(value)}  # JSON has no NaN
        numbers = row | unknown if good else row | unknown | {"skipped": True}
        self._waiting.append(json.dumps(numbers).encode() + b"\n")
        if (problem := self._write_rows()) and not self._told:
            print(f"note      {self._path}: {problem}; its rows are kept and tried again", flush=True)
        self._told = bool(problem)
        if self._rows <= 1:  # the first row counts only while it is the only one
            self._ms = self._tokens = 0
        self._rows, self._ms, self._tokens = self._rows + 1, self._ms + step_ms, self._tokens + tokens
        if good:
            self._losses.append(row["loss"])
        all_heads = f" {row['loss_sum']:9.4f} |" if self._heads > 1 else ""
        print(ROW.format(**row, all_heads=all_heads) + ("" if good else "  not finite: skipped"), flush=True)
        if measured:
            print(f"  val | {validation.said(measured)}", flush=True)
        self._bar.update(self._task, completed=row["step"] + 1)

    def _write_rows(self) -> str:
        """Write the rows that wait; what went wrong, or ""."""
        try:
            if self._waiting and not is_at(self._log.fileno(), self._path):  # moved or deleted: nobody would find them
                self._path.parent.mkdir(parents=True, exist_ok=True)
                old, self._log = self._log, open(self._path, "ab", buffering=0)  # noqa: SIM115
                old.close()
                self._written = 0
            while self._waiting:
                self._written += self._log.write(self._waiting[0][self._written :])
                if self._written == len(self._waiting[0]):
                    del self._waiting[0]
                    self._written = 0
        except OSError as error:
            return error.strerror or str(error)
        return ""

    def _cut(self, start: int) -> None:
        end, last = 0, -1
        with self._path.open("rb") as log:
            for line in log:
                row = row_of(line)
                if not line.endswith(b"\n") or (row and row["step"] >= start):
                    break
                end += len(line)
                last = row["step"] if row else last
                self._bad = self._bad + 1 if row and row.get("skipped") else 0
        self._log.truncate(end)
        if last != start - 1:
            print(f"note      {self._path} has no rows of the steps from {last + 1:,} to {start - 1:,}", flush=True)
