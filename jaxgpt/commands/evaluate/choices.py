"""--choices: how often a model finds the right one of several continuations the likeliest."""

import functools
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.inference import multiple_choice
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    items = multiple_choice.read_items(config.choices, source.config.block_size, source.tokenizer)[: config.limit]
    return functools.partial(measure, config, items)


def measure(config: EvaluateConfig, items: list[multiple_choice.Item], load: Load) -> dict[str, Any]:
    from jaxgpt.inference.score import is_cut, score

    model = load()
    context = model.config.block_size
    requests = [request for item in items for request in item.requests]
    cut = sum(any(is_cut(request, context) for request in item.requests) for item in items)
    too_long = f"; {cut:,} too long for the model's context of {context:,} tokens, cut from the left" if cut else ""
    console.say(
        "choices",
        f"{config.choices}: {console.plural(len(items), 'item')}, {console.plural(len(requests), 'choice')}{too_long}",
    )
    with stage("choices", len(requests)) as advance:
        scores = iter(score(model, requests, config.batch_size, advance))
    results = multiple_choice.accuracy(items, [[next(scores).log_likelihood for _ in item.requests] for item in items])
    for name in ("acc", "acc_norm"):
        console.say(name, f"{results[name]:.4f} ± {results[f'{name}_stderr']:.4f}")
    return {"choices": results | {"cut": cut}}
