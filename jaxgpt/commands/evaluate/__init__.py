"""Measure a model: `jaxgpt evaluate RUN`, with `--data`, `--choices`, `--canaries` or `--tasks`.

A measurement is a file, with `prepare` and what it calls, and a line in a table below.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.commands.evaluate import canaries, choices, encoder, labels, tasks, text
from jaxgpt.commands.evaluate.config import MEASUREMENTS, EvaluateConfig, Measure
from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.runs.weights import WeightsRef, require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Model

Prepare = Callable[[EvaluateConfig, WeightsRef], Measure]  # reads and checks what the flag names, without JAX
OF_TEXT_MODELS: dict[str, Prepare] = {
    "data": text.prepare,
    "choices": choices.prepare,
    "canaries": canaries.prepare,
    "tasks": tasks.prepare,
}
OF_ENCODERS: dict[str, Prepare] = {"data": encoder.prepare}
OF_LABEL_MODELS: dict[str, Prepare] = {"data": labels.prepare}


def main(argv: Sequence[str]) -> int:
    config = parse(EvaluateConfig, argv, command="evaluate")
    source = resolve_weights(config.model)
    measurements = choose_measurements(config, source)
    require_json(config, source)
    measures = [prepare(config, source) for name, prepare in measurements.items() if getattr(config, name) is not None]

    from jaxgpt.runtime import device

    load = functools.cache(functools.partial(load_model, config, source))
    results: dict[str, Any] = {"model": config.model}
    with device.memory_errors("use a smaller --batch-size"):
        for measure in measures:
            results |= measure(load)
    save_results(config, results)
    return 0


def choose_measurements(config: EvaluateConfig, source: WeightsRef) -> dict[str, Prepare]:
    """What a model can be measured by, by the flag that asks for it; a flag of another kind of model is refused."""
    if source.labels and config.data is not None:
        allowed, what = OF_LABEL_MODELS, "predicts labels, measured by --data alone"
    elif source.config.bidirectional and not source.labels:
        allowed, what = OF_ENCODERS, "is an encoder, measured by --data alone: it predicts no continuation"
    else:
        require_text_model(source)
        return OF_TEXT_MODELS
    others = [name for name in MEASUREMENTS if name not in allowed]
    others += ["T", "max_windows"] * (allowed is OF_LABEL_MODELS)
    if unusable := [name for name in others if getattr(config, name) is not None]:
        raise UsageError(f"--{unusable[0]}: {config.model} {what}; leave it out")
    return allowed


def require_json(config: EvaluateConfig, source: WeightsRef) -> None:
    """Refuse a file for the results that can't be written, exists, or is a part of an input."""
    if config.json:
        inputs = [("MODEL", config.model), ("the weights under it,", source.base)]
        inputs += [(f"--{name}", getattr(config, name)) for name in ("choices", "canaries")]
        inputs += [("--data", config.data)] if config.data != "shakespeare" else []  # which is part of the package
        require_writable("--json", config.json)
        require_separate("--json", config.json, [*inputs, ("--include-path", config.include_path)])
        require_new("--json", config.json)


def save_results(config: EvaluateConfig, results: dict[str, Any]) -> None:
    if config.json:
        write_whole(config.json, json.dumps(replace_nonfinite(results), indent=2) + "\n", new=True)
        console.say("saved", str(config.json))


def load_model(config: EvaluateConfig, source: WeightsRef, T: int | None = None) -> "Model":
    """The model, which will read sequences of T tokens; None: its context."""
    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load

    compute, described = placement.select_compute(source.config, config.device, config.dtype, T)
    console.say("model", f"{config.model}: {described}")
    return load(source, **compute)
