"""A page in one HTML file, with plots as vector graphics. It fetches and runs nothing, and a text in it stays text."""

import html
import io
from collections.abc import Iterable, Sequence
from typing import Any

from jaxgpt.console import escape

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


def render_page(title: str, parts: Iterable[str]) -> str:
    """The page of these parts, which are HTML, under its title, which is text."""
    heading = escape_html(title)
    head = f'<meta charset="utf-8"><title>{heading}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{heading}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def render_table(title: str, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as HTML; its cells are text."""
    head = "".join(f"<th>{escape_html(name)}</th>" for name in header)
    lines = ["".join(f"<td>{escape_html(str(cell))}</td>" for cell in row) for row in rows]
    body = "\n".join(f"<tr>{line}</tr>" for line in lines)
    return f"<table><caption>{escape_html(title)}</caption>\n<tr>{head}</tr>\n{body}</table>"


def make_figure(height: float) -> tuple[Any, Any]:
    """A matplotlib figure of so many inches in height, and its axes."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a window

    figure = Figure((WIDTH_INCHES, height), layout="constrained")
    axes = figure.add_subplot()
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def render_svg(figure: Any) -> str:
    """A matplotlib figure as SVG, with text as text, which can be read and searched; the same bytes each time."""
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxgpt"}):
        figure.savefig(file, format="svg", metadata={"Date": None})
    return file.getvalue()[file.getvalue().index("<svg") :]


def escape_html(text: str) -> str:
    """Text that is text on a page, whatever is in it."""
    return html.escape(escape(text, keep="\n"))
