"""The results of a benchmark's tasks, as a table and as JSON."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaxgpt import console
from jaxgpt.commands.glue.measure import Numbers, score
from jaxgpt.data.benchmarks.tasks import Task, read_tasks
from jaxgpt.files import write_whole
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.reports.sweep_tables import mean_and_error, render

TABLE, RESULTS = "table.md", "results.json"
Measured = Sequence[tuple[Task, Mapping[str, Numbers]]]


def write_tables(out: Path, measured: Measured) -> None:
    """Print and write the metrics of each task and the average of each benchmark; 100 is perfect."""
    lines, averages = [], []
    for task, numbers in measured:
        for name, by_seed in numbers.items():
            for metric in next(iter(by_seed.values())):
                values = {seed: 100 * each[metric] for seed, each in by_seed.items()}
                lines.append({"task": task.name, "set": name, "metric": metric} | summarize(values))
    for benchmark in dict.fromkeys(task.benchmark for task, _ in measured):
        averages.append({"benchmark": benchmark} | average(benchmark, measured))
    rows = ({name: line[name] for name in ("task", "set", "metric", "mean", "seeds")} for line in lines)
    parts = [render([row | {"mean": format_mean(line)} for row, line in zip(rows, lines, strict=True)])]
    for line in averages:
        of = console.plural(line["tasks"], "task")
        of += f" of {line['tasks_of_benchmark']}" if line["tasks"] < line["tasks_of_benchmark"] else ""
        parts.append(f"average   {line['benchmark']}, {of}: {format_mean(line)}\n")
    text = "\n".join(parts)
    print(console.escape(text, keep="\n"), end="")
    write_whole(out / TABLE, text)
    results = {"metrics": lines, "averages": averages}
    write_whole(out / RESULTS, json.dumps(replace_nonfinite(results), indent=2) + "\n")
    console.say("saved", f"{out / TABLE}, {out / RESULTS}")


def average(benchmark: str, measured: Measured) -> dict[str, Any]:
    """The mean over a benchmark's tasks of their scores, for each seed that all of them have."""
    tasks = [(task, numbers) for task, numbers in measured if task.benchmark == benchmark]
    seeds = [{*numbers[task.sets[0].name]} for task, numbers in tasks]
    common = sorted(set.intersection(*seeds))
    values = {seed: 100 * float(np.mean([score(*each, seed) for each in tasks])) for seed in common}
    known = sum(task.benchmark == benchmark for task in read_tasks())
    return {"tasks": len(tasks), "tasks_of_benchmark": max(known, len(tasks))} | summarize(values)


def summarize(values: Mapping[int, float]) -> dict[str, Any]:
    """The mean over seeds and its standard error; NaN where there are none."""
    mean, error = mean_and_error([*values.values()]) if values else (float("nan"), float("nan"))
    return {"mean": mean, "stderr": error, "seeds": len(values), "values": dict(values)}


def format_mean(line: Mapping[str, Any]) -> str:
    """A mean with its standard error, if there are several seeds."""
    mean, error = line["mean"], line["stderr"]
    text = f"{mean:.1f}" if np.isfinite(mean) else "no seed has all tasks"
    return text + f" ± {error:.1f}" * bool(np.isfinite(error))
