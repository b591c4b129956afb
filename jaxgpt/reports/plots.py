"""Plots of several runs over their steps, tokens or time. Of many rows each bucket's lowest and highest are drawn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaxgpt.console import escape
from jaxgpt.page import COLORS, NAME_CHARS, make_figure
from jaxgpt.reports.logged_run import LoggedRun

DASHES = ("solid", "dashed", "dotted", "dashdot")  # of each len(COLORS) runs
MAX_RUNS = len(DASHES) * len(COLORS)
WIDTH_INCHES, HEIGHT_INCHES = 5.0, 2.7  # two stand side by side, and on a phone the text is large enough
BUCKETS = 500  # about a plot's width in pixels
SMOOTHING = 50  # a mean is of so many parts of the longest run
LARGEST = 1e38  # a number above would overflow in matplotlib
TITLES = {
    "loss": "Loss in nats",
    "lr": "Learning rate",
    "grad_norm": "Gradient norm, before clipping",
    "tokens_per_s": "Tokens per second",
}
AXES = {"step": "step", "tokens": "tokens", "time": "training time"}
COUNTERS = {"position", "tokens_seen", "step_ms", "skipped"}  # and what is no curve of its own:
DERIVED = {"val_perplexity", "val_bits_per_byte", "val_bits_per_masked_token", "val_tokens", "val_bytes", "val_n"}
MAX_PLOTS = 24


def plot_names(runs: Sequence[LoggedRun]) -> list[str]:
    """The columns of which there is a plot; a validation's numbers are in that of the training's."""
    names = list(dict.fromkeys(name for run in runs for name in run.history.columns))
    names = [name for name in names if name not in COUNTERS | DERIVED and not name.endswith("_stderr")]
    present = [name for name in names if any(np.isfinite(run.history[name]).any() for run in runs)]
    shown = list(dict.fromkeys(name.removeprefix("val_") for name in present))
    return [*[name for name in TITLES if name in shown], *[name for name in shown if name not in TITLES]][:MAX_PLOTS]


def smoothing_window(runs: Sequence[LoggedRun]) -> int:
    """Of how many steps the means are that are drawn: the same for all runs."""
    return max([len(run.history.steps) // SMOOTHING for run in runs] + [1])


def line_style(i: int) -> dict[str, str]:
    """Colour and dashes of run number i, below MAX_RUNS."""
    return {"color": COLORS[i % len(COLORS)], "linestyle": DASHES[i // len(COLORS)]}


def _is_in_most_rows(run: LoggedRun, name: str) -> bool:
    """Whether a run that has a column has it at most steps, unlike a probe's: else a mean over steps tells nothing."""
    known = np.isfinite(_values(run, name))
    return not known.any() or known.mean() > 0.5


def draw(name: str, runs: Sequence[LoggedRun], axis: str, with_names: bool = False) -> Any:
    """A figure of a column: each run's rows, their moving mean, and validations with a standard error's band.

    Args:
      axis: a key of AXES.
      with_names: whether the runs' names are in it.

    Returns:
      A matplotlib figure. Its lines have the ids `rows-NAME-i`, `mean-NAME-i`, `val-NAME-i` and `spikes-NAME-i` of run
      number i.
    """
    figure, axes = make_figure(HEIGHT_INCHES, WIDTH_INCHES)
    window = smoothing_window(runs) if name != "lr" and all(_is_in_most_rows(run, name) for run in runs) else 1
    for i, run in enumerate(runs):
        x, y = run.x(axis), _values(run, name)
        style = line_style(i)
        faint = {"alpha": 0.4, "linewidth": 0.6} if window > 1 else {"linewidth": 1.3}
        if len(drawn := envelope(x, y)[0]):
            axes.plot(*envelope(x, y), **style, **faint, gid=f"rows-{name}-{i}", marker="." * (len(drawn) == 1))
        if window > 1:
            at = np.unique(np.linspace(0, len(y) - 1, BUCKETS).astype(int)) if len(y) else np.empty(0, int)
            axes.plot(x[at], moving_mean(y, window, at), **style, linewidth=1.6, gid=f"mean-{name}-{i}")
        _draw_validations(axes, name, run, i, x, style["color"])
        if name == "loss" and run.spikes:
            at = np.searchsorted(run.history.steps, [each.step for each in run.spikes if np.isfinite(each.loss)])
            hollow = {"markerfacecolor": "none", "markersize": 6, "linestyle": "none"}
            axes.plot(x[at], y[at], "v", color=style["color"], **hollow, gid=f"spikes-{name}-{i}")
    _scale(axes, name, runs)
    _label_x(axes, axis)
    if with_names:
        axes.set_title(TITLES.get(name, name), loc="left")
        lines = [axes.plot([], [], **line_style(i))[0] for i in range(len(runs))]
        legend = figure.legend(lines, [""] * len(runs), loc="outside lower left", frameon=False)
        for text, run in zip(legend.get_texts(), runs, strict=True):
            text.set(text=escape(run.label)[:NAME_CHARS], parse_math=False)
    return figure


def _values(run: LoggedRun, name: str) -> np.ndarray:
    return np.clip(run.history[name], -LARGEST, LARGEST)


def _draw_validations(axes: Any, name: str, run: LoggedRun, i: int, x: np.ndarray, color: str) -> None:
    at = run.history.validated()
    values = _values(run, f"val_{name}")[at]
    if not np.isfinite(values).any():
        return
    x, errors = x[at], np.nan_to_num(_values(run, f"val_{name}_stderr")[at])
    axes.fill_between(x, values - errors, values + errors, color=color, alpha=0.25, linewidth=0)
    axes.plot(x, values, color=color, linestyle="dotted", marker="o", markersize=3, gid=f"val-{name}-{i}")


def _scale(axes: Any, name: str, runs: Sequence[LoggedRun]) -> None:
    """A logarithmic axis where a few rows are far above the others, which a linear one would flatten."""
    values = np.concatenate([_values(run, name) for run in runs])
    values = values[np.isfinite(values)]
    if name in ("loss", "grad_norm") and len(values) and values.min() > 0 and values.max() > 20 * np.median(values):
        axes.set_yscale("log")
    elif name == "tokens_per_s":
        axes.set_ylim(bottom=0)


def _label_x(axes: Any, axis: str) -> None:
    axes.set_xlabel(AXES[axis])
    axes.locator_params(axis="x", nbins=6)
    if axis == "time":
        longest = axes.get_xlim()[1]
        seconds, unit = next(each for each in ((86400, "days"), (3600, "hours"), (60, "minutes"), (0, "seconds"))
                             if longest > 3 * each[0])  # fmt: skip
        axes.set_xlabel(f"{AXES[axis]} in {unit}")
        axes.xaxis.set_major_formatter(lambda value, _: f"{value / max(seconds, 1):,.6g}")
    else:
        axes.xaxis.set_major_formatter(lambda value, _: short_number(value))


def short_number(value: float) -> str:
    """A number as 1.5 M: at most six characters for what a run counts."""
    size, unit = next((each for each in ((1e12, " T"), (1e9, " B"), (1e6, " M")) if abs(value) >= each[0]), (1, ""))
    return f"{value / size:,.6g}{unit}"


def envelope(x: np.ndarray, y: np.ndarray, buckets: int = BUCKETS) -> tuple[np.ndarray, np.ndarray]:
    """The points to draw of many: where there are more than two a bucket, the lowest and the highest of each.

    Args:
      x, y: (n,); a point with NaN is left out.
      buckets: equal parts of the range of x.

    Returns:
      x and y, in the order of x, at most 2 * buckets of each.
    """
    order = np.argsort(x, kind="stable")
    order = order[np.isfinite(x[order]) & np.isfinite(y[order])]
    x, y = x[order], y[order]
    if len(x) <= 2 * buckets:
        return x, y
    bucket = np.minimum((x - x[0]) / max(x[-1] - x[0], 1e-300) * buckets, buckets - 1).astype(int)
    by_height = np.lexsort((y, bucket))
    ends = np.flatnonzero(np.diff(bucket, prepend=-1, append=buckets))  # where each bucket begins; the end
    shown = np.unique(np.concatenate([by_height[ends[:-1]], by_height[ends[1:] - 1]]))
    return x[shown], y[shown]


def moving_mean(values: np.ndarray, window: int, at: np.ndarray) -> np.ndarray:
    """For some rows the mean of the finite values of so many rows around each; NaN where there are none."""
    means = np.full(len(at), np.nan)
    for n, i in enumerate(at.tolist()):
        part = values[max(0, i - (window - 1) // 2) : i + window // 2 + 1]
        finite = part[np.isfinite(part)]
        means[n] = finite.mean() if len(finite) else np.nan
    return means
