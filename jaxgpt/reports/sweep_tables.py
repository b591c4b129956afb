"""What the runs of a sweep have reached: means over seeds, the best learning rates, and a scaling law, as Markdown."""

import dataclasses
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from jaxgpt.reports.logged_run import LoggedRun
from jaxgpt.reports.scaling import bootstrap, fit, interval

# Numbers of a run, by which runs are compared, and of which a table has the mean alone; and what they are called there.
MEASURED = ("loss", "bits_per_byte", "bits_per_masked_token", "accuracy")
COSTS = ("tokens_per_s", "step_mb")
TITLES = {"bits_per_byte": "bits per byte", "bits_per_masked_token": "bits per masked token"}
TITLES |= {"tokens_per_s": "tokens/s", "step_mb": "MB of a step"}


@dataclasses.dataclass(frozen=True)
class Result:
    """A finished run.

    Attributes:
      row: the name of its flags that belong together.
      values: what it has of the grid, by flag.
      parameters: how many its model has.
      tokens: how many it was trained on.
      numbers: of its last row the validation's, by name without val_; `tokens_per_s`, the median over steps; `step_mb`,
        the memory that its compiled step asks for.
    """

    row: str
    values: Mapping[str, Any]
    parameters: int
    tokens: int
    numbers: Mapping[str, float]


def read_result(row: str, values: Mapping[str, Any], parameters: int, run: LoggedRun) -> Result:
    """Of a run whose log has all of its steps."""
    history = run.history
    numbers = {
        name.removeprefix("val_"): float(column[-1])
        for name, column in history.columns.items()
        if name.startswith("val_") and math.isfinite(column[-1])
    }
    speeds, starts = history["tokens_per_s"], run.config["starts"]
    step_bytes = starts[-1].get("step_bytes") if isinstance(starts[-1], dict) else None
    numbers["tokens_per_s"] = float(np.nanmedian(speeds)) if np.isfinite(speeds).any() else math.nan
    numbers["step_mb"] = step_bytes / 1e6 if isinstance(step_bytes, int) else math.nan
    return Result(row, values, parameters, int(history["tokens_seen"][-1]), numbers)


def mean_and_error(values: Sequence[float]) -> tuple[float, float]:
    """The mean, and its standard error, NaN for one value."""
    error = np.std(values, ddof=1) / len(values) ** 0.5 if len(values) > 1 else math.nan
    return float(np.mean(values)), float(error)


def group(results: Sequence[Result], without: Sequence[str]) -> dict[tuple, list[Result]]:
    """The results that differ in these flags alone, by their row and the other values."""
    groups: dict[tuple, list[Result]] = {}
    for result in results:
        others = tuple((flag, value) for flag, value in result.values.items() if flag not in without)
        groups.setdefault((result.row, others), []).append(result)
    return groups


def summarize(results: Sequence[Result]) -> list[dict[str, Any]]:
    """A line for each row and each combination of values but the seed: means over seeds, and their standard errors."""
    lines = []
    for (row, values), seeds in group(results, ["seed"]).items():
        line = {"row": row, **dict(values), "seeds": len(seeds), "parameters": seeds[0].parameters}
        line |= {"tokens": seeds[0].tokens}
        for name in (*MEASURED, *COSTS):
            found = [each.numbers[name] for each in seeds if name in each.numbers]
            if len(found) == len(seeds):
                mean, error = mean_and_error(found)
                line |= {name: mean} | ({f"{name}_stderr": error} if name in MEASURED else {})
        lines.append(line)
    return lines


def choose_learning_rates(lines: Sequence[dict[str, Any]], rates: Sequence[float]) -> list[dict[str, Any]]:
    """Of the lines that differ in `lr` alone the one with the lowest loss, and what its place among the rates means.

    Args:
      lines: of `summarize`.
      rates: the learning rates of the grid.
    """
    groups: dict[tuple, list[dict[str, Any]]] = {}
    for line in lines:
        differing = ("lr", *MEASURED, *COSTS)
        same = {name: value for name, value in line.items() if name.removesuffix("_stderr") not in differing}
        groups.setdefault(tuple(same.items()), []).append(line)
    chosen = []
    for each in groups.values():
        best = min(each, key=lambda line: line["loss"] if math.isfinite(line["loss"]) else math.inf)
        edge = "lowest" if best["lr"] == min(rates) else "highest" if best["lr"] == max(rates) else ""
        if len(rates) == 1 or len(each) < len(rates):
            edge = "only" if len(rates) == 1 else edge and f"{edge}, and some runs are missing"
        chosen.append(best | {"at the edge": edge})
    return chosen


def render(lines: Sequence[dict[str, Any]]) -> str:
    """A table in Markdown; a number's standard error stands behind it."""
    names = dict.fromkeys(name for line in lines for name in line if not name.endswith("_stderr"))
    rows = [[TITLES.get(name, name) for name in names], ["---"] * len(names)]
    for line in lines:
        rows.append([_cell(line.get(name, ""), line.get(f"{name}_stderr", math.nan)) for name in names])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _cell(value: Any, error: float) -> str:
    if not isinstance(value, float):
        return f"{value:,}" if type(value) is int else str(value).replace("|", "\\|")
    if not math.isfinite(value):
        return "not finite"
    if math.isfinite(error):
        return f"{value:.4f} ± {error:.4f}"
    return f"{value:,.1f}" if abs(value) >= 10 else f"{value:.4f}" if abs(value) >= 0.1 else f"{value:g}"


def fit_scaling_law(lines: Sequence[dict[str, Any]], forecasts: Sequence[tuple[float, float]]) -> dict[str, Any]:
    """The law of the best line of each number of parameters and tokens, and its losses for others.

    Args:
      lines: of `summarize`.
      forecasts: parameters and tokens.

    Returns:
      `law`: E, A, B, alpha and beta; `intervals`: of each, where 95 % of the bootstrap's are; `forecasts`: for each its
      loss and the same interval; `points`: how many losses were fitted.

    Raises:
      ValueError: there are too few, or some are of masked tokens.
    """
    if any("bits_per_masked_token" in line for line in lines):
        raise ValueError("the law is of the loss of the next token, and some runs have that of masked tokens")
    best: dict[tuple[int, int], float] = {}
    for line in lines:
        key = line["parameters"], line["tokens"]
        if math.isfinite(line["loss"]):
            best[key] = min(best.get(key, math.inf), line["loss"])
    N, D = (np.array([key[i] for key in best], float) for i in (0, 1))
    loss = np.array([*best.values()])
    law = fit(N, D, loss)
    laws = bootstrap(law, N, D, loss)
    told = [
        {"parameters": n, "tokens": d, "loss": float(law.loss(n, d))}
        | {"interval": interval([float(each.loss(n, d)) for each in laws])}
        for n, d in forecasts
    ]
    intervals = {name: interval([getattr(each, name) for each in laws]) for name in law._fields}
    return {"points": len(loss), "law": law._asdict(), "intervals": intervals, "forecasts": told}


def describe_law(found: Mapping[str, Any]) -> list[str]:
    """A scaling law in a few lines."""
    law, intervals = found["law"], found["intervals"]
    lines = [
        f"{law['E']:.3f} + {law['A']:.4g} / N^{law['alpha']:.3f} + {law['B']:.4g} / D^{law['beta']:.3f} nats, "
        f"of {found['points']} numbers of parameters N and tokens D"
    ]
    for name in ("E", "alpha", "beta"):
        low, high = intervals[name]
        lines.append(f"{name} {law[name]:.3f}, from {low:.3f} to {high:.3f} in 95 % of the bootstrap")
    for each in found["forecasts"]:
        low, high = each["interval"]
        what = f"{each['parameters']:.4g} parameters on {each['tokens']:.4g} tokens"
        lines.append(f"{what}: {each['loss']:.3f} nats, from {low:.3f} to {high:.3f}")
    return lines
