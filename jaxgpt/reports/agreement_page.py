"""The page that `jaxgpt agreement` writes: its statistics as tables, and the intervals drawn."""

import math
from collections.abc import Sequence
from typing import Any

from jaxgpt.console import escape, plural
from jaxgpt.page import COLORS, escape_html, make_figure, render_page, render_svg, render_table

STYLE = """
.disputes td, .disputes th { text-align: left; white-space: pre-line; vertical-align: top }
"""
ROW_INCHES, AXIS_INCHES, WIDTH_INCHES = 0.28, 0.7, 5.0  # on a phone the text is large enough
LABEL_CHARS = 32  # of a row in a plot
MAX_DRAWN = 40  # intervals of one plot
MAX_DISPUTES = 100
ALL, UNNAMED = "all", "none"
EXPLAINED = {
    "Agreement": "Kappa is 1 if two annotators always agree and 0 if they agree as often as by chance; a tie is a vote"
    " like the other two, and a skip is none.",
    "Win rate": "The share of decided judgments that chose the model's answer; 50 % means that neither model is"
    " better. The interval takes account of items that several annotators have judged.",
    "Position bias": "How much more often than half of the time the first answer was chosen. The places are drawn, so"
    " an interval that excludes 0 means that choices follow the place.",
    "Disputes": "Items on which votes differ, first those on which fewest agree.",
}


def render_agreement(summary: dict[str, Any], files: Sequence[str]) -> str:
    """The page of what agreement.summarize returns. Names, prompts and remarks are text, whatever they contain."""
    parts = [f"<p>{escape_html(', '.join(files))}: {escape_html(describe_counts(summary['counts']))}</p>"]
    parts += render_kappa(summary["kappa"], summary["fleiss"])
    parts += render_win_rate(summary["win_rate"])
    parts += render_position(summary["position"])
    parts += [render_time(summary["time"]), *render_disputes(summary["disputes"])]
    return render_page("Agreement of annotators", filter(None, parts), STYLE, generator="jaxgpt agreement")


def describe_counts(counts: dict[str, int]) -> str:
    """What there is, in a line."""
    who, what = plural(counts["annotators"], "annotator"), plural(counts["items"], "item")
    outcomes = [f"{counts['decided']:,} decided", plural(counts["ties"], "tie"), plural(counts["skips"], "skip")]
    judged = f"{plural(counts['judgments'], 'judgment')} by {who} on {what}"
    return f"{judged}: {', '.join(outcomes)}; {counts['edited']:,} edited"


def name_group(name: str | None) -> str:
    """The annotator or the topic of a row in words."""
    return ALL if name is None else name or UNNAMED


def format_interval(row: dict[str, Any], name: str) -> str:
    """A number with its interval: kappa as 0.64 [0.52, 0.75], a share as 61.2 % [52.0, 69.8], a bias with its sign."""
    if not math.isfinite(row[name]):
        return "undefined"
    form, scale, unit = {"kappa": (".2f", 1, ""), "share": (".1f", 100, " %"), "bias": ("+.1f", 100, " %")}[name]
    value, low, high = (f"{scale * row[each]:{form}}" for each in (name, "low", "high"))
    return f"{value}{unit} [{low}, {high}]"


def interval_cell(row: dict[str, Any], name: str) -> str:
    return format_interval(row, name).replace(" ", "\u00a0")  # in one line, on a phone too


def render_kappa(pairs: Sequence[dict[str, Any]], everyone: dict[str, Any]) -> list[str]:
    if not pairs:
        return [
            heading("Agreement"),
            "<p>No item has two annotators' votes: give the file of a review with"
            " --per-item 2, or the files of all annotators.</p>",
        ]
    rows = [(" and ".join(row["annotators"]), row, row["alike"] / row["items"]) for row in pairs]
    cells = [
        [name, f"{row['items']:,}", f"{100 * alike:.1f} %", interval_cell(row, "kappa")] for name, row, alike in rows
    ]
    cells.append(
        [f"all {everyone['annotators']}, by Fleiss", f"{everyone['items']:,}", "", interval_cell(everyone, "kappa")]
    )
    drawn = [(name, row) for name, row, _ in rows] + [(cells[-1][0], everyone)]
    table = render_table("Cohen's kappa of each two", ["annotators", "items", "alike", "kappa"], cells)
    return [heading("Agreement"), draw_intervals(drawn, "kappa", "kappa", (0, 1)), table]


def render_win_rate(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    cells = [
        [
            row["model"],
            name_group(row["topic"]),
            f"{row['decided']:,}",
            f"{row['wins']:,}",
            interval_cell(row, "share"),
        ]
        for row in rows
    ]
    has_topics = any(row["topic"] is not None for row in rows)
    drawn = [(f"{row['model']}, {name_group(row['topic'])}" if has_topics else row["model"], row) for row in rows]
    table = render_table("Wins", ["model", "topic", "decided", "wins", "win rate"], cells)
    return [heading("Win rate"), draw_intervals(drawn, "share", "win rate", (0, 0.5, 1)), table]


def render_position(rows: Sequence[dict[str, Any]]) -> list[str]:
    if not rows:
        return []
    names = [name_group(row["annotator"]) for row in rows]
    cells = [
        [name, f"{row['decided']:,}", f"{row['first']:,}", interval_cell(row, "bias")]
        for name, row in zip(names, rows, strict=True)
    ]
    table = render_table("First place", ["annotator", "decided", "first chosen", "bias"], cells)
    plot = draw_intervals(
        [*zip(names, rows, strict=True)], "bias", "share of first places, less a half", (-0.5, 0, 0.5)
    )
    return [heading("Position bias"), plot, table]


def render_time(rows: Sequence[dict[str, Any]]) -> str:
    cells = [
        [name_group(row["annotator"]), f"{row['timed']:,}", f"{row['median_s']:,.1f} s"] for row in rows if row["timed"]
    ]
    return render_table("Time for an item", ["annotator", "items", "median"], cells) if cells else ""


def render_disputes(disputes: Sequence[dict[str, Any]]) -> list[str]:
    if not disputes:
        return []
    cells = []
    for dispute in disputes[:MAX_DISPUTES]:
        votes = "\n".join(f"{name}: {name_vote(vote, dispute['models'])}" for name, vote in dispute["votes"].items())
        remarks = "\n".join(f"{name}: {remark}" for name, remark in dispute["remarks"].items())
        cells.append([dispute["item"], dispute["prompt"], votes, remarks])
    title = "Items in dispute" + f", {MAX_DISPUTES} of {len(disputes):,}" * (len(disputes) > MAX_DISPUTES)
    return [
        heading("Disputes"),
        f'<div class="disputes">{render_table(title, ["item", "prompt", "votes", "remarks"], cells)}</div>',
    ]


def name_vote(vote: int | str, models: Sequence[str] | None) -> str:
    """A vote in words: the model whose answer it is for, or which of the two."""
    if vote == "tie":
        return "tie"
    return models[vote] if models and len({*models}) == 2 else f"answer {vote}"


def heading(title: str) -> str:
    return f"<h2>{escape_html(title)}</h2>\n<p>{escape_html(EXPLAINED[title])}</p>"


def draw_intervals(rows: Sequence[tuple[str, dict[str, Any]]], name: str, label: str, marks: Sequence[float]) -> str:
    """Numbers with their intervals below each other, the first at the top, as SVG, without those that are undefined.

    Args:
      rows: what each is called, and its number under `name` with `low` and `high`.
      label: what the axis is.
      marks: the axis has all of these, and a line at each but its ends.
    """
    rows = [(called, row) for called, row in rows if math.isfinite(row[name])][:MAX_DRAWN]
    if not rows:
        return ""
    figure, axes = make_figure(AXIS_INCHES + ROW_INCHES * len(rows), WIDTH_INCHES)
    at = [-i for i in range(len(rows))]
    lows, values, highs = ([row[key] for _, row in rows] for key in ("low", name, "high"))
    axes.hlines(at, lows, highs, color=COLORS[0], linewidth=1.6)
    axes.plot(values, at, "o", color=COLORS[0], markersize=5, gid=f"{name}-values")
    axes.set_yticks(at, [escape(called)[:LABEL_CHARS] for called, _ in rows], parse_math=False)
    low, high = min(marks[0], *lows), max(marks[-1], *highs)
    axes.set_xlim(low - 0.02 * (high - low), high + 0.02 * (high - low))
    axes.set_ylim(at[-1] - 0.6, 0.6)
    for mark in marks[1:-1] or marks[:1]:
        axes.axvline(mark, color="black", linewidth=0.8, linestyle="dotted")
    axes.set_xlabel(label)
    return render_svg(figure)
