"""The report on runs, in one HTML file that fetches and runs nothing; and the same rows as CSV."""

import contextlib
import csv
import datetime
import functools
import os
import re
import stat
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

import jaxgpt
from jaxgpt.console import escape
from jaxgpt.errors import RetryableError
from jaxgpt.page import COLORS, escape_html, render_page, render_svg
from jaxgpt.reports import tables
from jaxgpt.reports.evaluations import evaluations_table, find_evaluations
from jaxgpt.reports.logged_run import LoggedRun
from jaxgpt.reports.plots import DASHES, TITLES, draw, line_style, plot_names, smoothing_window
from jaxgpt.signals import before_exit

GENERATOR = "jaxgpt report"
MARK = f'<meta name="generator" content="{GENERATOR}"/>'.encode()  # near the beginning of each page
REFRESH = re.compile(rb'<meta http-equiv="refresh" content="\d+"/>')
MAX_SAMPLES = 20
STYLE = """
.plots { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); gap: 1rem 2rem }
.plots figure { margin: 0 }
.plots svg { width: 100% }
figcaption { font-weight: 600 }
.runs { list-style: none; padding: 0; display: flex; flex-wrap: wrap; gap: 0 1.5rem }
.runs svg { width: 2.5rem; height: .6rem; margin-right: .4rem }
.facts th, .facts td { text-align: left; min-width: 8rem; overflow-wrap: anywhere }
.spikes td:last-child { font-family: monospace; text-align: left }
"""
DASH_ARRAYS = dict(zip(DASHES, ("none", "6 3", "2 2", "6 2 2 2"), strict=True))


def render_report(
    runs: Sequence[LoggedRun], axis: str, evaluations: dict[str, dict[str, Any]], refresh_s: int = 0
) -> str:
    """The page.

    Args:
      axis: of the plots: `step`, `tokens` or `time`.
      evaluations: by name, beside those that are in the runs' folders.
      refresh_s: as page.render_page has it.
    """
    several = len(runs) > 1
    in_folders = {
        f"{run.label}/{name}": content for run in runs for name, content in find_evaluations(run.folder).items()
    }
    parts = [tables.summary_table(runs), render_legend(runs), render_plots(runs, axis)]
    parts += [tables.validations_table(runs)]
    parts += [render_section("spikes", tables.spikes_table(run)) for run in runs]
    parts += [*map(render_samples, runs)]
    parts += [evaluations_table(in_folders | evaluations)]
    if several:
        differences = render_section("facts", tables.differences_table(runs))
        parts.append(differences or "<p>The runs have the same settings.</p>")
    parts += [render_section("facts", table(runs)) for table in (tables.data_table, tables.lineage_table)]
    settings = render_section("facts", tables.settings_table(runs))
    parts.append(f"<details><summary>All settings</summary>{settings}</details>")
    written = f"{datetime.datetime.now().astimezone():%Y-%m-%d %H:%M:%S %z}"
    parts.append(f"<p>jaxgpt {jaxgpt.__version__}, {written}</p>")
    title = f"{len(runs)} runs" if several else str(runs[0].folder)
    return render_page(title, filter(None, parts), STYLE, GENERATOR, refresh_s)


def render_section(name: str, part: str) -> str:
    return f'<div class="{name}">{part}</div>' if part else ""


def render_legend(runs: Sequence[LoggedRun]) -> str:
    """Which line is which run's."""
    if len(runs) == 1:
        return ""
    items = []
    for i, run in enumerate(runs):
        dashes = DASH_ARRAYS[line_style(i)["linestyle"]]
        style = f'stroke="var(--line{i % len(COLORS)})" stroke-width="3" stroke-dasharray="{dashes}"'
        line = f'<svg viewBox="0 0 40 8"><path d="M0 4H40" {style}/></svg>'
        items.append(f"<li>{line}{escape_html(run.label)}</li>")
    return f'<ul class="runs">{"".join(items)}</ul>'


def render_plots(runs: Sequence[LoggedRun], axis: str) -> str:
    names = plot_names(runs)
    figures = []
    for name in names:
        caption = f"<figcaption>{escape_html(TITLES.get(name, name))}</figcaption>"
        figures.append(f"<figure>{caption}{render_svg(draw(name, runs, axis))}</figure>")
    window = smoothing_window(runs)
    lines = ["thin: each step", f"thick: the mean of {window:,} steps"] * (window > 1)
    lines += ["points: validation", "band: its standard error"] * any(len(run.history.validated()) for run in runs)
    lines += ["triangle: a loss spike"] * any(run.spikes for run in runs)
    key = f"<p>{'; '.join(lines)}</p>" if lines and names else ""
    return f'<div class="plots">{"".join(figures)}</div>{key}' if names else ""


def render_samples(run: LoggedRun) -> str:
    """The newest texts that a run has written, after each validation."""
    shown = run.samples[-MAX_SAMPLES:]
    texts = [
        f"<p>After {row['step']:,} steps</p><pre><b>{escape_html(row['prompt'])}</b>{escape_html(row['text'])}</pre>"
        for row in shown
    ]
    title = escape_html(f"Samples of {run.label}")
    of_all = f", the newest {MAX_SAMPLES} of {len(run.samples):,}" * (len(run.samples) > MAX_SAMPLES)
    return "\n".join([f"<details open><summary>{title}{of_all}</summary>", *texts, "</details>"]) if texts else ""


def is_report(path: Path) -> bool:
    """Whether a file is a page that `render_report` made, which a newer one may replace."""
    if not path.is_file():
        return False
    with path.open("rb") as file:
        return MARK in file.read(1000)


@contextlib.contextmanager
def refreshing(page: Path) -> Iterator[None]:
    """A context in which a page is rewritten again and again, and at whose end no browser reads it again.

    Raises:
      RetryableError: its folder, or a run's, was moved or deleted meanwhile. The page in it is ended there.
    """
    page, folder = page.resolve(), None
    with contextlib.suppress(OSError):  # Windows opens no folder, and moves none in which a file is open
        folder = os.open(page.parent, os.O_RDONLY)

    def stop() -> None:
        stop_refresh(page)
        if folder is not None:  # another one may have its name by now
            stop_refresh(page.name, folder)

    try:
        with before_exit(stop):
            yield
    except FileNotFoundError:
        again = "run the same command again with the folders where they are now"
        raise RetryableError(f"{page.parent} or a run was moved or deleted; {again}") from None
    finally:
        stop()
        if folder is not None:
            os.close(folder)


def stop_refresh(page: str | Path, folder: int | None = None) -> None:
    """Remove from a page what has a browser read it again; another file stays as it is.

    Args:
      folder: that a relative name is in, as a file descriptor.
    """
    with contextlib.suppress(OSError):
        if not stat.S_ISREG(os.stat(page, dir_fd=folder).st_mode):  # a pipe would be waited for
            return
        with open(page, "r+b", opener=functools.partial(os.open, dir_fd=folder)) as file:
            content = file.read()
            still = REFRESH.sub(b"", content, count=1)
            if MARK in content[:1000] and still != content:
                file.seek(0)
                file.write(still)
                file.truncate()


def write_csv(file: IO[str], runs: Sequence[LoggedRun]) -> None:
    """Write all rows of the runs' logs, with the run's name and the seconds of training in front of the log's numbers.

    Numbers are as exact as in the log. What a row lacks, or is not finite, is left empty.
    """
    names = list(dict.fromkeys(name for run in runs for name in run.history.columns))
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["run", "step", "seconds", *names])
    for run in runs:
        # A spreadsheet takes a text that begins with =, +, - or @ for a formula.
        label = escape(run.label if run.label[0].isalnum() else f"./{run.label}")
        columns = [run.history.seconds(), *(run.history[name] for name in names)]
        cells = zip(run.history.steps.tolist(), *(_cells(column) for column in columns), strict=True)
        writer.writerows([label, *row] for row in cells)


def _cells(column: np.ndarray) -> Iterable[str]:
    return ("" if value != value else repr(value).removesuffix(".0") for value in column.tolist())  # NaN is not itself
