"""What a run reports: a row a step on the terminal, the same in log.jsonl, and a progress line."""

import collections
import contextlib
import errno
import json
import math
import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import jax

from jaxgpt.console import say
from jaxgpt.errors import NumericsError, UsageError
from jaxgpt.files import is_same_file, open_nofollow
from jaxgpt.progress_bar import stage
from jaxgpt.runs.fingerprint import combined_fingerprint
from jaxgpt.runs.progress import Run
from jaxgpt.runs.rows import parse_row
from jaxgpt.runtime.distributed import broadcast_from_process_0
from jaxgpt.training.bias import PREFIX, format_bias
from jaxgpt.training.probe import Probe
from jaxgpt.training.validation import format_metrics

HEADER = " step | {loss:>8} |{shown} grad norm |       lr |       ms |  tokens/s"
ROW = "{step:5d} | {loss:8.4f} |{shown} {grad_norm:9.4f} | {lr:8.2e} | {step_ms:8.1f} | {tokens_per_s:9,.0f}"


class MetricsLog:
    """A context for the training loop. It reads the metrics of a step when the next one has been dispatched.

    That way the device always has work while the host waits, formats and prints. On a CPU a second step in flight gains
    nothing and takes the memory of one: there they are read at once. Rows that the log can't take now, on a full disk
    for one, are kept and written with a later one; leaving the context is the last time to try.

    Args:
      path: the log.jsonl of the run; rows of steps from `start` on, left by a run that was killed, are cut off.
      start: the first step of this process.
      steps: the length of the run.
      learning_rates: of each update from step `start` on; a skipped step is none, and leaves its own to the next one.
      skip: how many steps in a row may have a loss or gradient norm that is not finite.
      hash_every: steps between fingerprints of the state; 0: none.
      minimize: the metric that is minimized, which is shown too if it is not the loss.
      late: whether to read a step's metrics one step late.
      probe: what else to measure of the model; None: nothing.
      loss_title: what the column of the loss is called.
      show: another metric that is shown beside it, and in the end; "": none.
      epsilon: of a private run, by the steps done; None: it is none.
    """

    def __init__(
        self,
        path: Path,
        start: int,
        steps: int,
        learning_rates: Sequence[float],
        skip: int = 0,
        hash_every: int = 0,
        minimize: str = "loss",
        late: bool = True,
        probe: Probe | None = None,
        loss_title: str = "loss",
        show: str = "",
        epsilon: Callable[[int], float] | None = None,
    ):
        self._learning_rates, self._updates = learning_rates, 0
        self._skip, self._hash_every, self._minimize, self._late = skip, hash_every, minimize, late
        self._show, self._epsilon = show or minimize, epsilon
        self._probe, self._file, self._loss_title = probe, RowFile(path, start), loss_title
        self._bad_steps = broadcast_from_process_0(self._file.skipped_at_end)  # only process 0 has the log
        self._pending: tuple | None = None  # the arguments of `_write`
        self._speed = Speed()
        self._losses: collections.deque[float | None] = collections.deque(maxlen=10)
        self._stage = stage("steps", steps, start, quiet_s=math.inf)  # the rows are its lines

    @property
    def lost(self) -> str:
        """After the context: what to report of rows that the log never took."""
        return self._file.lost

    def __enter__(self) -> "MetricsLog":
        self._speed.start()
        self._advance = self._stage.__enter__()
        shown = "" if self._show == "loss" else f" {self._show:>9} |"
        print(HEADER.format(loss=self._loss_title, shown=shown), flush=True)
        return self

    def __exit__(self, *exception: object) -> None:
        self._stage.__exit__(*exception)
        self._file.close()

    @contextlib.contextmanager
    def pause(self, metrics: Any) -> Iterator[None]:
        """A context for what is no part of any step's time; it begins when these metrics are there."""
        jax.block_until_ready(metrics)
        started = time.perf_counter()
        yield
        self._speed.exclude(time.perf_counter() - started)

    def add(self, before: Run, run: Run, metrics: dict[str, Any], validation: dict[str, float]) -> None:
        """Take a step that was just dispatched, and write the one before it; on a CPU, this one.

        Args:
          before, run: the run before and after the step.
          metrics: the device's, those of step.train_step.
          validation: the numbers measured after the step; none if there was no validation.

        Raises:
          NumericsError: the loss or gradient norm of a step is not finite, and that of `skip` before it.
        """
        facts = {"step": before.step, "position": before.position, "tokens_seen": run.tokens_seen}
        if self._hash_every and run.step % self._hash_every == 0:
            metrics = metrics | {"state": combined_fingerprint(run.state)}
        if self._probe and self._probe.due(run.step):
            with self.pause(metrics):
                metrics = metrics | jax.block_until_ready(self._probe.measure(run.state.model))
        pending, self._pending = self._pending, (facts, run.tokens_seen - before.tokens_seen, metrics, validation)
        if pending:
            self._write(*pending)
        if not self._late:
            self._write_pending()

    def amend(self, validation: dict[str, float]) -> None:
        """Add the numbers of a validation to the last row, if it has none: a signal came while they were measured."""
        self._file.extend_last(_finite(_val(validation)))
        _print_validation(validation)

    def flush(self) -> None:
        """Wait for the last step, write it, and have the disk keep all rows: a checkpoint may follow."""
        self._write_pending()
        self._file.sync()

    def _write_pending(self) -> None:
        pending, self._pending = self._pending, None
        if pending:
            self._write(*pending)

    def summary(self) -> str:
        """The loss over the last ten rows, and the mean speed without the first row, in which the step was compiled."""
        if not self._losses:
            return "the validation after the last step was missing"
        losses = [loss for loss in self._losses if loss is not None]
        mean = f"mean of the last {len(self._losses)} steps" if len(self._losses) > 1 else "of the last step"
        skipped = len(self._losses) - len(losses)
        mean += f", {skipped} of them skipped" * bool(skipped)
        loss = sum(losses) / len(losses) if losses else math.nan
        return f"loss {loss:.4f} ({mean}), {self._speed}"

    def _write(self, facts: dict[str, Any], tokens: int, metrics: dict[str, Any], validation: dict[str, float]) -> None:
        values = {name: value.item() for name, value in jax.device_get(metrics).items()}
        state = {"state": f"{values.pop('state'):08x}"} if "state" in values else {}
        speed = self._speed.lap(tokens)
        is_finite = math.isfinite(values[self._minimize]) and math.isfinite(values["grad_norm"])  # as train_step has it
        self._bad_steps = 0 if is_finite else self._bad_steps + 1
        if self._bad_steps > self._skip:
            raise NumericsError(
                f"step {facts['step']}: loss {values['loss']}, gradient norm {values['grad_norm']}: not finite; "
                "the run ends here. Start over (--fresh) with a lower --lr, a --warmup-ratio or --grad-clip 1, "
                f"or skip such steps with --skip-bad-steps {self._skip + 1}"
            )
        lr = float(self._learning_rates[self._updates])
        self._updates += is_finite
        row = {"step": facts["step"], "loss": values["loss"], **values, "lr": lr, **facts, **speed, **state}
        skipped = {} if is_finite else {"skipped": True}
        if self._epsilon:
            row |= {"epsilon": self._epsilon(facts["step"] + 1)}
        self._file.append(row | _finite(values) | _finite(_val(validation)) | skipped)
        self._losses.append(row["loss"] if is_finite else None)
        shown = "" if self._show == "loss" else f" {row[self._show]:9.4f} |"
        print(ROW.format(**row, shown=shown) + ("" if is_finite else "  not finite: skipped"), flush=True)
        _print_validation(validation)
        self._advance()


class Speed:
    """Milliseconds and tokens of steps, of which the first counts only while it is the only one."""

    def start(self) -> None:
        self._clock, self._laps = time.perf_counter(), 0

    def exclude(self, seconds: float) -> None:
        """Count so many seconds for no step."""
        self._clock += seconds

    def lap(self, tokens: int) -> dict[str, float]:
        """The milliseconds since the last lap, in which so many tokens were trained on, and tokens a second."""
        time_now = time.perf_counter()
        step_ms, self._clock = 1000 * (time_now - self._clock), time_now
        if self._laps <= 1:
            self._ms = self._tokens = 0
        self._laps, self._ms, self._tokens = self._laps + 1, self._ms + step_ms, self._tokens + tokens
        return {"step_ms": round(step_ms, 3), "tokens_per_s": round(1000 * tokens / step_ms, 1)}

    def __str__(self) -> str:
        step_ms = self._ms / max(self._laps - 1, 1)
        return f"{step_ms:,.1f} ms a step, {1000 * self._tokens / self._ms:,.0f} tokens/s"


class RowFile:
    """A file of JSON rows that loses none of them while the disk is full or the file is moved away.

    Args:
      start: rows of steps from this on, left by a run that was killed, are cut off.
      every_step: whether each step has a row; a gap is reported then.

    Attributes:
      skipped_at_end: how many of the last rows that stay are of skipped steps.
      lost: after `close`, what to report of rows that the file never took.
    """

    def __init__(self, path: Path, start: int, every_step: bool = True):
        self._every_step = every_step
        self._path, self._file = path, open_nofollow(path, "ab", buffering=0)
        self._waiting: list[bytes] = []  # rows that the file could not take yet
        self._written = 0  # bytes of the first of them that it took
        self._reported = False
        self._last: dict[str, Any] | None = None  # the row of the last step before `start`
        self.lost = ""
        self.skipped_at_end = self._truncate(start)

    def append(self, row: dict[str, Any]) -> None:
        """Write a row, now or later."""
        self._waiting.append(json.dumps(row).encode() + b"\n")
        if (problem := self._write()) and not self._reported:
            say("note", f"{self._path}: {problem}; its rows are kept and tried again")
        self._reported = bool(problem)

    def extend_last(self, values: dict[str, Any]) -> None:
        """Add values to the row of the step before `start`, in one write, if it is there and has none of them."""
        if self._last is None or values.keys() & self._last.keys():
            return
        more, end = b", " + json.dumps(values).encode().lstrip(b"{") + b"\n", b"}\n"
        try:
            with open_nofollow(self._path, "r+b", buffering=0) as file:
                place = file.seek(-len(end), os.SEEK_END)
                if file.write(more) < len(more):  # the disk is full
                    file.seek(place)
                    file.write(end)
                    file.truncate()
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        except (OSError, UsageError) as error:
            say("note", f"{self._path}: {getattr(error, 'strerror', None) or error}; it lacks the last validation")

    def sync(self) -> None:
        """Have the disk keep what is written; one that can't is reported when it takes no row."""
        with contextlib.suppress(OSError):
            os.fsync(self._file.fileno())

    def close(self) -> None:
        """Try once more to write what waits, and close the file."""
        if problem := self._write():
            self.lost = f"{self._path}: {problem}; rows are lost: the last {len(self._waiting):,}"
            say("note", self.lost)
        self._file.close()

    def _write(self) -> str:
        """Write the rows that wait; what went wrong, or ""."""
        try:
            # Moved or deleted: nobody would find the rows.
            if self._waiting and not is_same_file(self._file.fileno(), self._path):
                self._path.parent.mkdir(parents=True, exist_ok=True)
                old, self._file = self._file, open_nofollow(self._path, "ab", buffering=0)
                old.close()
                self._written = 0
            while self._waiting:
                self._written += self._file.write(self._waiting[0][self._written :])
                if self._written == len(self._waiting[0]):
                    del self._waiting[0]
                    self._written = 0
        except (OSError, UsageError) as error:
            return getattr(error, "strerror", None) or str(error)
        return ""

    def _truncate(self, start: int) -> int:
        """Cut the rows from a step on, and what is no row at the end; how many skipped steps are before."""
        end, last, skipped = 0, -1, 0
        with self._path.open("rb") as file:
            for line in file:
                row = parse_row(line)
                if not line.endswith(b"\n") or (row and row["step"] >= start):
                    break
                end += len(line)
                last, self._last = (row["step"], row) if row else (last, None)
                skipped = skipped + 1 if row and row.get("skipped") else 0
        self._file.truncate(end)
        if self._every_step and last != start - 1:
            self._last = None
            say("note", f"{self._path} has no rows of the steps from {last + 1:,} to {start - 1:,}")
        return skipped


def _print_validation(numbers: dict[str, float]) -> None:
    bias = {name: value for name, value in numbers.items() if name.startswith(PREFIX)}
    if len(bias) < len(numbers):
        print(f"  val | {format_metrics(numbers)}", flush=True)
    if bias:
        print(f" bias | {format_bias(bias)}", flush=True)


def _val(numbers: dict[str, float]) -> dict[str, float]:
    """The fields of a row; bias is not measured on the validation data."""
    return {name if name.startswith(PREFIX) else f"val_{name}": value for name, value in numbers.items()}


def _finite(values: dict[str, float]) -> dict[str, float | None]:
    """JSON has no NaN."""
    return {name: value if math.isfinite(value) else None for name, value in values.items()}
