"""--data of a reward model: the rewards of texts."""

import functools
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data.examples import Examples
from jaxgpt.data.judged import load_scored
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    T = config.choose_T(source.config.block_size, source.T)
    data = load_scored(config.data, config.batch_size, T, config.fields, source.tokenizer)
    return functools.partial(measure, data)


def measure(data: Examples, load: Load) -> dict[str, Any]:
    from jaxgpt.inference import judging
    from jaxgpt.inference.multiple_choice import mean_and_error

    model = load()
    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("data", str(data))
    with stage("texts", data.num_rows()) as advance:
        rewards = judging.rewards(model, data, advance).tolist()
    mean, stderr = mean_and_error(rewards)
    spread = f"from {min(rewards):.4f} to {max(rewards):.4f}"
    console.say("reward", f"{mean:.4f} ± {stderr:.4f}, the mean of {len(rewards):,}; {spread}")
    each = [{"line": line, "reward": reward} for line, reward in zip(data.lines.tolist(), rewards, strict=True)]
    return {"rewards": {"file": data.name, "mean": mean, "stderr": stderr, "n": len(rewards), "each": each}}
