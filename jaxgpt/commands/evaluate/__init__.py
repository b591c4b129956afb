"""Measure a model: `jaxgpt evaluate RUN`, with `--data`, `--generate`, `--pairs`, `--choices` and others.

A measurement is a file, with `prepare` and what it calls, and a line in a table below.
"""

import functools
import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.commands.evaluate import (
    bias,
    bias_text,
    canaries,
    choices,
    encoder,
    environment,
    generate,
    labels,
    pairs,
    rewards,
    scores,
    tasks,
    text,
)
from jaxgpt.commands.evaluate.config import MEASUREMENTS, EvaluateConfig, Measure
from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.runs.weights import WeightsRef, require_reward_model, require_text_model, resolve_weights

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Model

Prepare = Callable[[EvaluateConfig, WeightsRef], Measure]  # reads and checks what the flag names, without JAX
OF_TEXT_MODELS: dict[str, Prepare] = {
    "pairs": pairs.prepare,  # first: a reference is read before the model, and let go
    "data": text.prepare,
    "generate": generate.prepare,
    "choices": choices.prepare,
    "canaries": canaries.prepare,
    "tasks": tasks.prepare,
    "env": environment.prepare,
    "bias": bias.prepare,
    "bias_text": bias_text.prepare,
}
OF_ENCODERS: dict[str, Prepare] = {"data": encoder.prepare, "bias": bias.prepare}
OF_LABEL_MODELS: dict[str, Prepare] = {"data": labels.prepare}
OF_REGRESSIONS: dict[str, Prepare] = {"data": scores.prepare}
OF_REWARD_MODELS: dict[str, Prepare] = {"pairs": pairs.prepare, "data": rewards.prepare}


def main(argv: Sequence[str]) -> int:
    config = parse(EvaluateConfig, argv, command="evaluate")
    model, judge = (name and resolve_weights(name) for name in (config.model, config.reward))
    require_outputs(config, [source for source in (model, judge) if source])
    measure_model = model and prepare(config, model)
    if judge:
        require_reward_model(judge)
        measure_rewards = prepare(config.of_judge, judge)

    from jaxgpt.runtime import device

    with device.memory_errors("use a smaller --batch-size"):
        results = measure_model() if model else {}
        if judge:
            results["reward"] = measure_rewards()
    save_results(config, results)
    return 0


def prepare(config: EvaluateConfig, source: WeightsRef) -> Callable[[], dict[str, Any]]:
    """Read what a model is measured by; returns a function that measures it and returns what --json gets."""
    measurements = choose_measurements(config, source)
    measures = [prepare(config, source) for name, prepare in measurements.items() if getattr(config, name) is not None]

    def measure() -> dict[str, Any]:
        load = functools.cache(functools.partial(load_model, config, source))
        results: dict[str, Any] = {"model": config.model}
        for measure in measures:
            results |= measure(load)
        return results

    return measure


def choose_measurements(config: EvaluateConfig, source: WeightsRef) -> dict[str, Prepare]:
    """What a model can be measured by, by the flag that asks for it; a flag of another kind of model is refused."""
    unusable: list[str] = []
    if source.is_reward:
        allowed, what = OF_REWARD_MODELS, "is a reward model, measured by --pairs and --data"
        unusable = ["max_windows"]
    elif source.is_regression:
        allowed, what = OF_REGRESSIONS, "gives texts a number, measured by --data alone"
        unusable = ["T", "max_windows"]
    elif source.labels and config.data is not None:
        allowed, what = OF_LABEL_MODELS, "predicts labels, measured by --data alone"
        unusable = ["T", "max_windows"]
    elif source.config.bidirectional and not source.labels:
        allowed, what = OF_ENCODERS, "is an encoder, measured by --data and --bias: it predicts no continuation"
    else:
        require_text_model(source)
        return OF_TEXT_MODELS
    for name in (*unusable, *(name for name in MEASUREMENTS if name not in allowed)):
        if getattr(config, name) is not None:
            raise UsageError(f"--{name.replace('_', '-')}: {config.model} {what}; leave it out")
    return allowed


def require_outputs(config: EvaluateConfig, sources: Sequence[WeightsRef]) -> None:
    """Refuse a file for the results or the answers that can't be written, exists, or is a part of an input."""
    inputs = [("MODEL", config.model), *(("the weights under it,", source.base) for source in sources)]
    names = ("generate", "pairs", "reference", "reward", "choices", "canaries", "bias", "bias_text", "swaps")
    inputs += [(f"--{name.replace('_', '-')}", getattr(config, name)) for name in names]
    inputs += [("--data", config.data)] if config.data != "shakespeare" else []  # which is part of the package
    inputs += [("--include-path", config.include_path)]
    for flag, path in (("--json", config.json), ("--answers", config.answers)):
        if path:
            require_writable(flag, path)
            require_separate(flag, path, inputs)
            require_new(flag, path)
            inputs += [(flag, path)]


def save_results(config: EvaluateConfig, results: dict[str, Any]) -> None:
    if config.json:
        write_whole(config.json, json.dumps(replace_nonfinite(results), indent=2) + "\n", new=True)
        console.say("saved", str(config.json))


def load_model(config: EvaluateConfig, source: WeightsRef, T: int | None = None) -> "Model":
    """The model, for sequences of T tokens; None: of --T, or as a head was trained on, or as its context."""
    from jaxgpt.inference import placement
    from jaxgpt.runs.huggingface import load

    compute, described = placement.select_compute(source.config, config.device, config.dtype, T or config.T or source.T)
    console.say("model", f"{config.model}: {described}")
    return load(source, **compute)
