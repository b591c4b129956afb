"""Send a run's rows to a tracker: `jaxgpt track runs/default --to tensorboard`."""

import dataclasses
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import plural, say
from jaxgpt.errors import JaxgptError, RetryableError
from jaxgpt.files import owner_only, report_write_errors, require_no_link, require_no_links
from jaxgpt.locks import hold, is_held
from jaxgpt.progress_bar import stage
from jaxgpt.reports.follow import LogReader
from jaxgpt.reports.trackers import TRACKERS, TrackedRun, Tracker, require_installed
from jaxgpt.training.resume import load_run_config

POLL_S = 1.0
ROWS = 1000  # that are sent at a time


@dataclasses.dataclass(frozen=True)
class TrackConfig:
    """Send the rows of a run's log.jsonl to a tracker, and, while the run trains, those that come.

    However often it is started, ended or killed, what the tracker has in the end is what log.jsonl has: rows that the
    run has cut off or amended meanwhile are replaced.
    """

    run: Annotated[Path, *positional("RUN")]
    """A run folder, whose subfolder of the tracker's name is written."""
    to: Literal[*TRACKERS]
    """The tracker, whose library must be installed. wandb: an offline run, for `wandb sync`."""


def main(argv: Sequence[str]) -> int:
    config = parse(TrackConfig, argv, command="track")
    require_installed(config.to)
    flags, starts = load_run_config(config.run)
    folder = config.run / config.to
    require_no_link(folder)
    if config.to != "wandb":  # which makes links there itself
        require_no_links(folder)
    shown = stage(f"rows sent to {config.to}", quiet_s=math.inf)  # a run's errors are in the same file
    with owner_only(config.run), hold(folder), report_write_errors(folder), shown as advance:
        try:
            began = estimate_beginning(config.run, starts[-1]["step"])
            tracker = TRACKERS[config.to](TrackedRun(config.run, flags.flat(), began))
            count = send(
                LogReader(config.run / "log.jsonl"),
                tracker,
                lambda: is_held(config.run),
                advance,
            )
            tracker.close()
        except FileNotFoundError as error:  # a run that trains makes its folder anew
            missing = error.filename or folder
            raise RetryableError(f"{missing}: was moved or deleted; run the same command again") from None
        except (JaxgptError, OSError, MemoryError):
            raise
        except Exception as error:  # whatever a library raises
            reason = (str(error).splitlines() or ["no reason is given"])[0][:200]
            again = "run the same command again: it sends what is missing"
            raise RetryableError(f"{config.to}: {type(error).__name__}: {reason}; {again}") from None
    say("sent", f"{plural(count, 'row')} to {config.to}; {tracker.hint}")
    return 0


def estimate_beginning(run: Path, step: int) -> float:
    """The Unix time of a run's first step, had it never paused: of its last start less what was trained before.

    Args:
      step: the first one of that start, which wrote config.json.
    """
    log, before = LogReader(run / "log.jsonl"), 0.0
    while rows := log.read(ROWS):
        before = max((row.seconds for row in rows if row.step < step), default=before)
        if rows[-1].step >= step:
            break
    return (run / "config.json").stat().st_mtime - before


def send(log: LogReader, tracker: Tracker, is_growing: Callable[[], bool], report: Callable[[int], None]) -> int:
    """Make a tracker's rows those of a log, until that does not grow any more; how many there are.

    Args:
      is_growing: whether rows may still be added.
      report: called with numbers of rows that were sent.
    """
    known = tracker.read()
    if not known or log.read(len(known)) != known:
        log.rewind()
        tracker.clear()
    while True:
        more = is_growing()  # asked first: the last rows are there when the answer is no
        started = time.perf_counter()
        if not log.is_unchanged():
            log.rewind()
            tracker.clear()
        pause = max(POLL_S, 100 * (time.perf_counter() - started))  # to read a long log takes 1 % of a core
        while rows := log.read(ROWS):
            tracker.add(rows)
            report(len(rows))
        tracker.flush()
        if not more and log.is_unchanged():
            return log.count
        time.sleep(pause)
