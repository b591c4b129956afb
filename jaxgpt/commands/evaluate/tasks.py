"""--tasks: those of EleutherAI's lm-evaluation-harness."""

import functools
from typing import Any

import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.commands.evaluate.tables import print_table
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    with stage("reading the tasks"):
        from jaxgpt.inference import harness

        tasks = harness.load_tasks(config.task_names, config.include_path, config.num_fewshot)
    return functools.partial(measure, config, tasks, source.tokenizer)


def measure(config: EvaluateConfig, tasks: dict[str, Any], tokenizer: Tokenizer, load: Load) -> dict[str, Any]:
    from jaxgpt.inference import harness

    model = load()
    with stage("tasks"):
        lm = harness.JaxgptLM(model, config.batch_size, tokenizer=tokenizer)
        results = harness.evaluate(lm, tasks, config.limit)
    print_tasks(results)
    return {"tasks": results}


def print_tasks(results: dict[str, Any]) -> None:
    """The harness's results as a table: a row for each metric of a task."""
    table = rich.table.Table("task", "version", "shots", "n", "metric", "value", "± stderr")
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            cells = (
                task,
                str(results["versions"].get(task, "")),
                str(results["n-shot"].get(task, "")),
                str(results["n-samples"].get(task, {}).get("effective", "")),
                metric if filtered == "none" else key,
                f"{value:.4f}",
                f"{error:.4f}" if isinstance(error, float) else "",
            )
            table.add_row(*(rich.text.Text(console.escape(cell)) for cell in cells))
    print_table(table)
