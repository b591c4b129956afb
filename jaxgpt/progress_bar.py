"""What a command is doing, how far it is and how long that takes: a bar on a terminal, elsewhere a few lines.

All of it goes to stderr, since stdout has only results.
"""

import contextlib
import dataclasses
import datetime
import os
import stat
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, TextIO

from jaxgpt.console import escape

if TYPE_CHECKING:
    import rich.table

SWITCH = "JAXGPT_PROGRESS"  # "off" in the environment: nothing is shown
QUIET_S = 2  # a stage that ends earlier has no line
BETWEEN_LINES_S, SILENCE_S = 10, 60  # seconds between two lines: at least so many, and at most
REFRESH_S = 0.5
BAR_WIDTH = 30


@dataclasses.dataclass(eq=False)
class Stage:
    """A part of a command that may take long.

    Attributes:
      what: its name, escaped.
      total: how much there is to do; None: nobody knows.
      done: how much of it is done.
      unit: of what is counted, for showing it; in millions where it begins with M, such as MB. "": things.
      quiet_s: seconds before its first line.
      started: when it began, in seconds of the clock.
      first: how much was done then.
    """

    what: str
    total: float | None
    done: float
    unit: str
    quiet_s: float
    started: float
    first: float

    def advance(self, amount: float = 1) -> None:
        """Count what was done; some 50 ns, since only whoever shows it looks there."""
        self.done += amount

    @property
    def tenths(self) -> int:
        """How many tenths of it are done."""
        return int(10 * self.done / self.total) if self.total else 0

    def describe(self, now: float) -> str:
        """How far it is: 12 of 40, 0:00:30 elapsed, 0:01:10 left."""
        elapsed, parts = now - self.started, []
        if self.total:
            parts.append(f"{self._format(min(self.done, self.total))} of {self._format(self.total)}")
            parts[0] += f" {self.unit}" if self.unit else ""
        elif self.done:
            parts.append(self._format(self.done))
        parts.append(f"{_format_seconds(elapsed)} elapsed")
        # The first part of it may have been compiled, and says nothing of thousands of others.
        is_known = self.total and (100 * (self.done - self.first) >= self.total or elapsed >= 60)
        if is_known and self.first < self.done < self.total:
            left = elapsed * (self.total - self.done) / (self.done - self.first)
            parts.append(f"{_format_seconds(left)} left")
        return ", ".join(parts)

    def _format(self, amount: float) -> str:
        return f"{amount / 1e6:,.1f}" if self.unit.startswith("M") else f"{amount:,.0f}"


def _format_seconds(seconds: float) -> str:
    return str(datetime.timedelta(seconds=round(seconds)))


_stages: list[Stage] = []  # those in progress, each within the one before it
_hidden, _clock = False, time.monotonic


@contextlib.contextmanager
def stage(
    what: str,
    total: float | None = None,
    done: float = 0,
    unit: str = "",
    quiet_s: float = QUIET_S,
    prints: bool = False,
) -> Iterator[Callable[[float], None]]:
    """Within this context, show a stage of a command, beside those that it is within.

    On a terminal that is a bar, which is gone afterwards. Elsewhere, where TERM is dumb, and where stdout is a pipe,
    whose other end may write to the same terminal, it is lines: the first after `quiet_s` seconds, then one for each
    tenth or minute, and never more than one in ten seconds.

    Args:
      what: its name, which may have names of files.
      total, done, unit: as in Stage.
      quiet_s: seconds before its first line; math.inf: it has none, as the command's own output tells how far it is.
      prints: whether the result is printed meanwhile: where it may come between the lines, nothing is shown.

    Returns:
      The function that counts what was done.
    """
    entered = Stage(escape(what), total, done, unit, quiet_s, _clock(), done)
    if prints and (_is_pipe(sys.stdout) or _is_one_file(sys.stdout, sys.stderr)):
        yield entered.advance
        return
    is_shown = not (_stages or _hidden or os.environ.get(SWITCH) == "off" or sys.stderr is None)
    _stages.append(entered)
    try:
        with _show(sys.stderr) if is_shown else contextlib.nullcontext():  # the outermost shows those in it
            yield entered.advance
    finally:
        _stages.remove(entered)


@contextlib.contextmanager
def hide() -> Iterator[None]:
    """Within this context nothing is shown: another process shows the same."""
    global _hidden
    before, _hidden = _hidden, True
    try:
        yield
    finally:
        _hidden = before


def _is_one_file(a: TextIO, b: TextIO) -> bool:
    try:
        return os.path.sameopenfile(a.fileno(), b.fileno())
    except (OSError, ValueError, AttributeError):  # it is no file, or closed
        return False


def _is_pipe(stream: TextIO) -> bool:
    try:
        return stat.S_ISFIFO(os.fstat(stream.fileno()).st_mode)
    except (OSError, ValueError, AttributeError):
        return False


def _show(stream: TextIO) -> contextlib.AbstractContextManager:
    is_dumb = os.environ.get("TERM", "").lower() in ("dumb", "unknown")
    return _bar(stream) if stream.isatty() and not is_dumb and not _is_pipe(sys.stdout) else _print_lines(stream)


# ---- On a terminal. Rich is imported when it draws: workers of prepare have no need of it.


def _bar(stream: TextIO) -> contextlib.AbstractContextManager:
    import rich.console
    import rich.live

    console = rich.console.Console(file=stream, force_terminal=True, force_jupyter=False)
    console.show_cursor = lambda show=True: False  # so that it stays visible, in whichever way the process ends
    # What is printed meanwhile comes above the bar, also what stdout gets if that is the terminal.
    return rich.live.Live(
        get_renderable=lambda: _render(console.width),
        console=console,
        refresh_per_second=1 / REFRESH_S,
        transient=True,
        redirect_stdout=sys.stdout is not None and sys.stdout.isatty(),
    )


def _render(width: int) -> "rich.table.Table":
    """A line for each stage: its name, cut where there is no room for it; a bar if it has a total; how far it is."""
    from rich.progress_bar import ProgressBar
    from rich.table import Table
    from rich.text import Text

    now, stages, table = _clock(), tuple(_stages), Table.grid(padding=(0, 1))
    facts = [each.describe(now) for each in stages]
    bar_width = min(BAR_WIDTH, width // 5) if width >= 60 and any(each.total for each in stages) else 0
    room = max(width - bar_width - max(map(len, facts), default=0) - 3, 1)
    for each, fact in zip(stages, facts, strict=True):
        what = Text(each.what, no_wrap=True)
        what.truncate(room, overflow="ellipsis")
        bar = ProgressBar(each.total, each.done, width=bar_width) if bar_width and each.total else ""
        table.add_row(what, bar, Text(fact, no_wrap=True))
    return table


# ---- Elsewhere


@contextlib.contextmanager
def _print_lines(stream: TextIO) -> Iterator[None]:
    ended = threading.Event()

    def print_due_lines() -> None:
        while not ended.wait(REFRESH_S):
            if line := _lines.next_line(tuple(_stages), _clock()):
                with contextlib.suppress(OSError, ValueError):  # the stream was closed
                    print(line, file=stream, flush=True)

    thread = threading.Thread(target=print_due_lines, daemon=True)
    with contextlib.suppress(RuntimeError):  # the system gives no more threads: what is not shown harms nobody
        thread.start()
    try:
        yield
    finally:
        ended.set()
        if thread.ident:
            thread.join(timeout=1)  # it may write to a pipe that nobody reads


class Lines:
    """Decides when a line is due, over all stages of a process."""

    def __init__(self):
        self._printed, self._last = -float("inf"), None

    def next_line(self, stages: tuple[Stage, ...], now: float) -> str:
        """The line that is due now; "" if none is."""
        shown = [each for each in stages if now - each.started >= each.quiet_s]
        if not shown or now - self._printed < BETWEEN_LINES_S:
            return ""
        last = shown[-1], shown[-1].tenths
        if last == self._last and now - self._printed < SILENCE_S:
            return ""
        self._printed, self._last = now, last
        return "progress: " + "; ".join(f"{each.what}: {each.describe(now)}" for each in shown)


_lines = Lines()
