"""An HTML report about a prepared folder, in one file: its tables, three plots and some documents."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.table

from jaxgpt.console import escape
from jaxgpt.page import NAME_CHARS, escape_html, make_figure, render_page, render_svg, render_table
from jaxgpt.prepare.statistics import SplitStatistics


def render_inspection(
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
    parts = [f"<h2>{name}</h2>\n{svg or '<p>None.</p>'}" for name, svg in figures]
    parts += [_table(each) for each in tables]
    parts += ["<h2>Some documents</h2>"] if documents else []
    parts += [f"<pre>{escape_html(text)}{' <b>[...]</b>' if cut else ''}</pre>" for text, cut in documents]
    return render_page(title, parts)


def plot_lengths(statistics: dict[str, SplitStatistics]) -> str:
    """A histogram of document lengths, as SVG; "" if there are no documents."""
    shown = {name: split for name, split in statistics.items() if len(split.lengths)}
    if not shown:
        return ""
    longest = max(int(split.lengths[-1]) for split in shown.values())
    edges = np.unique(np.geomspace(1, longest + 1, 50).round())  # whole numbers: no bin between two of them is empty
    figure, axes = make_figure(3.0)
    for name, split in shown.items():
        # matplotlib leaves labels out of the legend that begin with "_", as a split's name may.
        axes.hist(split.lengths, edges, weights=split.counts, histtype="step", label=f"split {name}")
    axes.set_xscale("log")
    axes.set_yscale("symlog", linthresh=1)  # a few of val beside millions of train
    axes.set_xlabel("tokens")
    axes.set_ylabel("documents")
    for label, name in zip(axes.legend(frameon=False).get_texts(), shown, strict=True):
        label.set(text=escape(name)[:NAME_CHARS], parse_math=False)
    return render_svg(figure)


def plot_bars(numbers: dict[str, int]) -> str:
    """A bar for each name, as SVG; "" if all are 0."""
    if not any(numbers.values()):
        return ""
    figure, axes = make_figure(0.8 + 0.28 * len(numbers))
    drawn = axes.barh(range(len(numbers)), list(numbers.values()))
    axes.bar_label(drawn, [f"{number:,}" for number in numbers.values()], padding=3)
    axes.set_yticks(range(len(numbers)), [escape(name)[:NAME_CHARS] for name in numbers], parse_math=False)
    axes.invert_yaxis()
    axes.margins(x=0.15)
    return render_svg(figure)


def _table(table: rich.table.Table) -> str:
    columns = [list(column.cells) for column in table.columns]
    return render_table(str(table.title), [str(column.header) for column in table.columns], zip(*columns, strict=True))
