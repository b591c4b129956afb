"""--data: the loss on a text or on completions."""

import functools
from collections.abc import Iterator
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data.base import Dataset
from jaxgpt.data.datasets import open_data
from jaxgpt.errors import DataError, UsageError
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    if config.max_windows is not None:
        raise UsageError(f"--max-windows: {config.model} is no encoder, and reads all of --data; leave it out")
    return functools.partial(measure, open_text(config, source))


def open_text(config: EvaluateConfig, source: WeightsRef) -> Dataset:
    data = open_data(
        config.data,
        config.batch_size,
        config.choose_T(source.config.block_size),
        split="val",
        horizon=source.config.predict_tokens,
        fields=config.fields,
        tokenizer=source.tokenizer,
    )
    if data.kind == "labels":
        train = console.program("train")
        raise DataError(f"{config.data}: texts with labels, for a model of labels; {train} --recipe classify makes one")
    if data.kind in ("preferences", "ratings"):
        raise DataError(f"{config.data}: judged answers, and --data is a text or completions; name it with --pairs")
    if data.kind == "text" and len(data.tokens) < 2:
        raise DataError(f"{config.data}: one token predicts nothing; use a longer text")
    return data


def measure(data: Dataset, load: Load) -> dict[str, Any]:
    import jax

    from jaxgpt.objectives import choose_objective
    from jaxgpt.runtime import device
    from jaxgpt.training.validation import format_metrics, summarize

    model = load()
    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("data", f"{data}; windows of {data.T:,}")
    objective = choose_objective(data.kind, predict_tokens=model.config.predict_tokens)
    measured = jax.jit(objective.validation_metrics)

    def metrics() -> Iterator[dict[str, Any]]:
        for batch in data.one_pass():
            yield jax.device_get(measured(model, device.put(batch)))
            advance(data.B)

    with stage("windows", data.num_rows()) as advance:
        numbers = summarize(metrics(), data.num_bytes())
    console.say("loss", format_metrics(numbers).removeprefix("loss "))
    return numbers
