"""--data of a model that gives texts a number: its error, and its correlation with the true numbers."""

import dataclasses
import functools
from typing import Any

import numpy as np

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data import examples
from jaxgpt.data.labels import SCORE_KINDS
from jaxgpt.runs.weights import WeightsRef, require_label_model


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    require_label_model(source)
    examples.require_suffix(config.data, '"text" and "score"')
    fields = dataclasses.replace(config.fields, score_field=config.fields.score_field or "score")
    options = {"kinds": SCORE_KINDS, "fields": fields, "tokenizer": source.tokenizer}
    (data,) = examples.load(config.data, config.batch_size, source.T, **options)
    return functools.partial(measure, examples.without_padding(data))


def measure(data: examples.Examples, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.classify import collect, head_outputs
    from jaxgpt.inference.task_metrics import correlation

    model = load(data.T)
    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("data", str(data))
    predicted = collect(head_outputs(model, data), data.count)[:, 0]
    truth = data.table["score"].astype(np.float64)
    results = {"loss": float(np.mean((predicted - truth) ** 2))}
    results |= {name: correlation(name, truth, predicted) for name in ("pearson", "spearman")}
    console.say("loss", f"{results['loss']:.4f}, the mean squared error of {data.count:,}")
    console.say("pearson", f"{results['pearson']:.4f}")
    console.say("spearman", f"{results['spearman']:.4f}, the same of ranks")
    return results | {"n": data.count}
