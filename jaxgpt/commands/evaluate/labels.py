"""--data of a model of labels: accuracy, F1, Matthews correlation, and the confusion matrix."""

import functools
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import rich.console
import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data.examples import Examples, load_labelled
from jaxgpt.inference import metrics
from jaxgpt.runs.weights import WeightsRef, require_label_model

MAX_LABELS_SHOWN = 20  # in a confusion matrix


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    require_label_model(source)
    data = load_labelled(
        config.data, config.batch_size, source.T, source.labels, config.fields, source.template, source.tokenizer
    )
    return functools.partial(measure, data)


def measure(data: Examples, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.classify import collect, log_probabilities

    model = load(data.T)
    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("data", str(data))
    results = compute_label_metrics(collect(log_probabilities(model, data), data.count), data.table["labels"])
    console.say("accuracy", f"{results['accuracy']:.4f} ± {results['accuracy_stderr']:.4f} of {results['n']:,}")
    scope = f"of {data.labels[1]!r}" if len(data.labels) == 2 else "the mean over the labels (macro)"
    console.say("F1", f"{results['f1']:.4f}, {scope}")
    console.say("MCC", f"{results['mcc']:.4f}, Matthews correlation: 0 is no better than guessing, 1 is all right")
    console.say("loss", f"{results['loss']:.4f}")
    print_confusion(results["confusion"], data.labels)
    confusion = results.pop("confusion")
    return results | {"labels": list(data.labels), "confusion": confusion}


def compute_label_metrics(log_p: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """A classifier's metrics from log probabilities (n, n_labels) and the true labels (n,)."""
    table = metrics.confusion(truth, log_p.argmax(-1), log_p.shape[-1])
    results = {name: getattr(metrics, name)(table) for name in ("accuracy", "accuracy_stderr", "f1", "mcc")}
    loss = float(-log_p[range(len(truth)), truth].mean())
    return results | {"n": len(truth), "loss": loss, "confusion": table.tolist()}


def print_confusion(table: list[list[int]], labels: Sequence[str]) -> None:
    """Print a confusion matrix: a row for each true label."""
    if len(labels) > MAX_LABELS_SHOWN:
        return console.say("confusion", f"the table of {len(labels)} labels is too wide for a page; --json has it")
    names = [rich.text.Text(console.escape(label)) for label in labels]  # a text: no markup
    columns = (rich.table.Column(name, justify="right") for name in names)
    grid = rich.table.Table("truth \\ predicted", *columns)
    for name, counts in zip(names, table, strict=True):
        grid.add_row(name, *(f"{count:,}" for count in counts))
    rich.console.Console(width=None if sys.stdout.isatty() else 2000).print(grid)
