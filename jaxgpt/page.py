"""A page in one HTML file, with plots as vector graphics. It fetches and runs nothing, and a text in it stays text.

It follows the reader's choice of light or dark, and fits a phone.
"""

import html
import io
import re
from collections.abc import Iterable, Sequence
from typing import Any

from jaxgpt.console import escape

# Of lines, from Okabe and Ito's palette, which colour-blind readers tell apart: for a light page, and for a dark one.
COLORS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")
COLORS_ON_DARK = ("#56b4e9", "#e69f00", "#2cc69a", "#e39ac4")
LINES, LINES_ON_DARK = (
    "; ".join(f"--line{i}: {color}" for i, color in enumerate(colors)) for colors in (COLORS, COLORS_ON_DARK)
)
STYLE = f"""
:root {{ color-scheme: light dark; --text: #222222; --page: #ffffff; --rule: #dddddd; --shade: #f5f5f5; {LINES} }}
@media (prefers-color-scheme: dark) {{
  :root {{ --text: #e4e4e4; --page: #16181c; --rule: #3d4148; --shade: #23262b; {LINES_ON_DARK} }}
}}
* {{ box-sizing: border-box }}
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem;
  color: var(--text); background: var(--page); overflow-wrap: anywhere; -webkit-text-size-adjust: 100% }}
table {{ display: block; overflow-x: auto; border-collapse: collapse; margin: 2rem 0 }}
caption {{ text-align: left; font-weight: 600; padding-bottom: .4rem }}
th, td {{ padding: .2rem .8rem .2rem 0; border-bottom: 1px solid var(--rule); text-align: right; max-width: 30rem;
  overflow-wrap: break-word }}
th:first-child, td:first-child {{ text-align: left; min-width: 8rem; overflow-wrap: anywhere }}
svg {{ max-width: 100%; height: auto }}
svg text {{ fill: currentColor }}
pre {{ white-space: pre-wrap; background: var(--shade); padding: 1rem }}
"""
FORBID = "default-src 'none'; style-src 'unsafe-inline'"  # a browser shall refuse what may have slipped in
WIDTH_INCHES = 7.5
NAME_CHARS = 60  # of a name in a plot: a longer one would leave no room for the plot


def render_page(
    title: str, parts: Iterable[str], style: str = "", generator: str = "jaxgpt", refresh_s: int = 0
) -> str:
    """The page of these parts, which are HTML, under its title, which is text.

    Args:
      style: CSS that is added to the page's own.
      generator: the command that makes it, which can tell its pages from others by that.
      refresh_s: seconds after which a browser reads the file again; 0: never.
    """
    heading = escape_html(title)
    head = f'<meta charset="utf-8"><meta name="generator" content="{escape_html(generator)}"/>'
    head += '<meta name="viewport" content="width=device-width, initial-scale=1"/>'
    head += f'<meta http-equiv="Content-Security-Policy" content="{FORBID}"/>'
    head += f'<meta http-equiv="refresh" content="{refresh_s}"/>' * bool(refresh_s)
    head += f"<title>{heading}</title><style>{STYLE}{style}</style>"
    body = "\n".join([f"<h1>{heading}</h1>", *parts])
    return f'<!DOCTYPE html>\n<html lang="en"><head>{head}</head>\n<body>\n{body}\n</body></html>\n'


def render_table(title: str, header: Iterable[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table as HTML; its cells are text."""
    return wrap_rows(title, header, ("".join(f"<td>{escape_html(str(cell))}</td>" for cell in row) for row in rows))


def wrap_rows(title: str, header: Iterable[str], rows: Iterable[str], css_class: str = "") -> str:
    """A table as HTML, of rows whose cells are HTML already."""
    head = "".join(f"<th>{escape_html(name)}</th>" for name in header)
    body = "\n".join(f"<tr>{row}</tr>" for row in rows)
    tag = f'<table class="{css_class}">' if css_class else "<table>"
    return f"{tag}<caption>{escape_html(title)}</caption>\n<tr>{head}</tr>\n{body}</table>"


def make_figure(height: float, width: float = WIDTH_INCHES) -> tuple[Any, Any]:
    """A matplotlib figure of so many inches, and its axes; both are transparent."""
    from matplotlib.figure import Figure  # without pyplot, which would look for a window

    figure = Figure((width, height), layout="constrained", facecolor="none")
    axes = figure.add_subplot(facecolor="none")
    axes.spines[["top", "right"]].set_visible(False)
    axes.set_prop_cycle(color=COLORS)
    return figure, axes


def render_svg(figure: Any) -> str:
    """A matplotlib figure as SVG, with text as text, which can be read and searched; the same bytes each time.

    What is black in the figure has the page's text colour, and COLORS are lighter on a dark page.
    """
    import matplotlib

    file = io.StringIO()
    with matplotlib.rc_context({"svg.fonttype": "none", "svg.hashsalt": "jaxgpt"}):
        figure.savefig(file, format="svg", metadata=dict.fromkeys(("Date", "Creator", "Format", "Type")))
    svg = file.getvalue()[file.getvalue().index("<svg") :]
    on_page = {"#000000": "currentColor"} | {color: f"var(--line{i})" for i, color in enumerate(COLORS)}
    colors = re.compile("|".join(on_page))
    # In tags only: a text has no <.
    return re.sub("<[^>]*>", lambda tag: colors.sub(lambda color: on_page[color[0]], tag[0]), svg)


def render_png(figure: Any) -> bytes:
    """A matplotlib figure as PNG, black on white."""
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=150, facecolor="white", metadata={"Software": None})
    return file.getvalue()


def escape_html(text: str) -> str:
    """Text that is text on a page, whatever is in it."""
    return html.escape(escape(text, keep="\n"))
