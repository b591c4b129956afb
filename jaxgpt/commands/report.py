"""Make an HTML report of runs: `jaxgpt report runs/default`, one file; while they train, too."""

import contextlib
import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

from jaxgpt.commands.flags import parse, positional
from jaxgpt.console import plural, say
from jaxgpt.errors import UsageError
from jaxgpt.files import (
    new_file,
    owner_only,
    report_write_errors,
    require_folder,
    require_new,
    require_separate,
    require_writable,
    write_whole,
)
from jaxgpt.page import render_png
from jaxgpt.progress_bar import stage
from jaxgpt.reports.evaluations import read_evaluation
from jaxgpt.reports.logged_run import LOG, LoggedRun, load_runs
from jaxgpt.reports.plots import MAX_RUNS, draw, plot_names
from jaxgpt.reports.report import is_report, refreshing, render_report, write_csv

PAGE = "report.html"
FOLLOW_S = 5  # seconds between two polls of the logs


@dataclasses.dataclass(frozen=True)
class ReportConfig:
    """Make an HTML report of runs: losses, gradient norm, speed, loss spikes, settings, data, evaluations.

    It is one HTML file, which needs no network and runs no script. Several runs are drawn over each other.
    """

    runs: Annotated[tuple[Path, ...], *positional("RUN")]
    """Run folders. They may be training."""
    x: Literal["step", "tokens", "time"] = "step"
    """What the plots have from left to right: steps, tokens trained on, or time spent in steps."""
    out: Path | None = None
    """The page; by default report.html in the first run's folder. A page that an earlier report made is replaced."""
    png: Path | None = None
    """Write each plot to a PNG file in this folder too."""
    csv: Path | None = None
    """Write all rows of the logs to this new .csv file too."""
    evaluation: tuple[Path, ...] = ()
    """Files of `jaxgpt evaluate --json` to show beside those that are in the runs' folders."""
    follow: bool = False
    """Write the page anew while the runs train, until all are done or Ctrl-C; a browser shows the newest by itself."""

    def __post_init__(self):
        if not 1 <= len(self.runs) <= MAX_RUNS:
            raise UsageError(f"{plural(len(self.runs), 'run')}: name from 1 to {MAX_RUNS} run folders")
        if self.follow and (self.png or self.csv):
            raise UsageError("--follow rewrites only the page; give --png and --csv without it")
        if self.csv and self.csv.suffix != ".csv":  # such as one of a run's own files
            raise UsageError(f"--csv {self.csv}: give the file a name that ends in .csv")
        if self.out and self.out.suffix != ".html":
            raise UsageError(f"--out {self.out}: give the page a name that ends in .html")

    @property
    def page(self) -> Path:
        return self.out or self.runs[0] / PAGE


def main(argv: Sequence[str]) -> int:
    config = parse(ReportConfig, argv, command="report")
    with stage("reading the logs"):
        logs, runs = log_states(config), load_runs(config.runs)
    evaluations = {str(path): read_evaluation(path) for path in config.evaluation}
    require_outputs(config, runs)
    permissions = owner_only(None if config.out else config.runs[0])
    with permissions, refreshing(config.page) if config.follow else contextlib.nullcontext():
        while config.follow and not all(run.is_done for run in runs):
            write_whole(config.page, render_report(runs, config.x, evaluations, FOLLOW_S))
            time.sleep(FOLLOW_S)  # even if there are new rows by now: the run has the processor
            while log_states(config) == logs:
                time.sleep(FOLLOW_S)
            logs, runs = log_states(config), load_runs(config.runs)
        with stage("drawing the page"):
            write_whole(config.page, render_report(runs, config.x, evaluations))
    write_exports(config, runs)
    say("saved", str(config.page))
    return 0


def require_outputs(config: ReportConfig, runs: Sequence[LoggedRun]) -> None:
    """Refuse an output that can't be written, or by which something would be lost."""
    inputs = [*(("RUN", run.folder) for run in runs), *(("--evaluation", path) for path in config.evaluation)]
    require_writable("--out", config.page)
    require_separate("--out", config.page, inputs, rewrites=lambda file: file.suffix == ".html")
    if not is_report(config.page):
        require_new("--out", config.page)
    if config.csv:
        require_writable("--csv", config.csv)
        require_separate("--csv", config.csv, inputs)
        require_new("--csv", config.csv)
    if config.png:
        require_folder(config.png)
        files = [png_name(name) for name in plot_names(runs)]
        require_separate("--png", config.png, inputs, parts=tuple(files))
        for file in files:
            require_new("--png", config.png / file)


def write_exports(config: ReportConfig, runs: Sequence[LoggedRun]) -> None:
    """Write what --png and --csv ask for."""
    if config.png:
        with report_write_errors(config.png):
            config.png.mkdir(parents=True, exist_ok=True)
            for name in plot_names(runs):
                with new_file(config.png / png_name(name)) as temporary:
                    temporary.write_bytes(render_png(draw(name, runs, config.x, with_names=True)))
        say("saved", f"{config.png}: {plural(len(plot_names(runs)), 'plot')}")
    if config.csv:
        with (
            report_write_errors(config.csv),
            new_file(config.csv) as temporary,
            temporary.open("w", encoding="utf-8") as file,
        ):
            write_csv(file, runs)
        say("saved", str(config.csv))


def png_name(column: str) -> str:
    return f"{column.replace('/', '%2F')}.png"  # no column has a % in its name, so no two share a file


def log_states(config: ReportConfig) -> list[tuple[int, int] | None]:
    """The size and the time of each run's log, of which one differs when it has new rows."""
    logs = [run / LOG for run in config.runs]
    statuses = [log.stat() if log.exists() else None for log in logs]
    return [status and (status.st_size, status.st_mtime_ns) for status in statuses]
