"""An HTML report about a prepared folder, in one file: its tables, three plots and some documents."""

import html
import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table

from jaxgpt.console import escape
from jaxgpt.errors import UsageError
from jaxgpt.prepare.statistics import SplitStatistics

STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 2rem 0 }
caption { text-align: left; font-weight: 600; padding-bottom: .4rem }
th, td { padding: .2rem .8rem .2rem 0; border-bottom: 1px solid #ddd; text-align: right; overflow-wrap: anywhere }
th:first-child, td:first-child { text-align: left }
svg { max-width: 100%; height: auto }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f5f5f5; padding: 1rem }
"""
WIDTH_INCHES = 7.5
NAME_CHARS = 60  # of a name in a plot: a longer one would leave no room for the plot


def require_matplotlib() -> None:
    """Raise a UsageError if matplotlib is not installed."""
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise UsageError("plots need matplotlib: pip install -r requirements-data.txt") from None


def render_report(
    title: str,
    tables: Sequence[rich.table.Table],
    documents: Sequence[tuple[str, bool]],
    statistics: dict[str, SplitStatistics],
    report: dict[str, Any],
) -> str:
    """The page. It fetches and runs nothing, and shows whatever the texts contain as text.

    Args:
      documents: excerpts, and whether each is cut.
      statistics: by split.
      report: the content of report.json.
    """
    dropped = {
        f"{step['name']}: {reason}": number for step in report["steps"] for reason, number in step["dropped"].items()
    }
    figures = [
        ("Documents by length", plot_lengths(statistics)),
        ("Documents dropped, by step and reason", plot_bars(dropped)),
        ("Personal data found, by kind", plot_bars(report["pii"])),
    ]
    parts = [f"<h1>{_escape(title)}</h1>"]
    parts += [f"<h2>{name}</h2>\n{svg or '<p>None.</p>'}" for name, svg in figures]
    parts += [_table(each) for each in tables]
    parts += ["<h2>Some documents</h2>"]
    parts += [f"<pre>{_escape(text)}{' <b>[...]</b>' if cut else ''}</pre>" for text, cut in documents]
    head = f'<meta charset="utf-8"><title>{_escape(title)}</title><style>{STYLE}</style>'
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{chr(10).join(parts)}\n</body></html>\n'


def plot_lengths(statistics: dict[str, SplitStatistics]) -> str:
    """A histogram of document lengths, as SVG; "" if there are no documents."""
    shown = {name: split for name, split in statistics.items() if len(split.lengths)}
    if not shown:
        return ""
    longest = max(int(split.lengths[-1]) for split in shown.values())
    edges = np.unique(np.geomspace(1, longest + 1, 50).round())  # whole numbers: no bin between two of them is empty
    figure, axes = _figure(3.0)
    for name, split in shown.items():
        # matplotlib leaves labels out of the legend that begin with "_", as a split's name may.
        axes.hist(split.lengths, edges, weights=split.counts, histtype="step", label=f"split {name}")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)  # a few of val beside millions of train
    axes.set_xlabel("tokens")
    axes.set_ylabel("documents")
    for label, name in zip(axes.legend(frameon=False).get_texts(), shown, strict=True):
        label.set(text=escape(name)[:NAME_CHARS], parse_math=False)
    return _svg(figure)


def plot_bars(numbers: dict[str, int]) -> str:
    """A bar for each name, as SVG; "" if all are 0."""
    if not any(numbers.values()):
        return ""
    figure, axes = _figure(0.8 + 0.28 * len(numbers))
    drawn = axes.barh(range(len(numbers)), list(numbers.values()))
    axes.bar_label(drawn, [f"{number:,}" for number in numbers.values()], padding=3)
    axes.set_yticks(range(len(numbers)), [escape(name)[:NAME_CHARS] for name in numbers], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    return _svg(figure)


def _figure(height: float) -> tuple[Any, Any]:
    from matplotlib.figure import Figure  # without pyplot, which would look for a window

    figure = Figure((WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def _svg(figure: Any) -> str:
    import matplotlib

    file = io.StringIO()
    # Text as text, which can be read and searched; and the same bytes each time.
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxgpt"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def _table(table: rich.table.Table) -> str:
    columns = [list(column.cells) for column in table.columns]
    head = "".join(f"<th>{_escape(str(column.header))}</th>" for column in table.columns)
    rows = ["".join(f"<td>{_escape(str(cell))}</td>" for cell in row) for row in zip(*columns, strict=True)]
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    return f"<table><caption>{_escape(str(table.title))}</caption>\n<tr>{head}</tr>\n{body}</table>"


def _escape(text: str) -> str:
    return html.escape(escape(text, keep="\n"))
