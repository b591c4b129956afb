"""--data of an encoder: its pseudo-log-likelihood of a text."""

import functools
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.commands.evaluate.text import open_text
from jaxgpt.data import masking
from jaxgpt.data.base import Dataset
from jaxgpt.errors import DataError
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef

ENCODER_WINDOWS = 64  # of --data by default: each costs as many forward passes as it has tokens


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    data = open_text(config, source)
    if data.kind != "text":
        raise DataError(f"{config.data}: {data.kind}, which an encoder does not write; use a text")
    return functools.partial(measure, config, data)


def measure(config: EvaluateConfig, data: Dataset, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.pseudo_likelihood import pseudo_likelihood
    from jaxgpt.training.validation import format_metrics, summarize

    total, tokenizer = masking.num_windows(data, data.T), data.tokenizer
    numbers = masking.evenly_spaced(total, config.max_windows or ENCODER_WINDOWS)
    windows = masking.cut_windows(data, tokenizer, data.T, numbers)
    model = load(data.T)
    console.say("data", f"{data}; {len(numbers):,} of its {total:,} windows of {data.T:,}, each token hidden in turn")
    with stage("windows", len(numbers)) as advance:
        ordinary, options = masking.ordinary_tokens(tokenizer), (config.batch_size, advance)
        results = summarize(pseudo_likelihood(model, windows, tokenizer.mask, ordinary, *options))
    if not results["n"]:
        what = f"no token to measure in windows of {data.T:,}"
        raise DataError(f"{config.data}: {what}; use a larger --T, or another text")
    console.say("loss", f"{format_metrics(results).removeprefix('loss ')}")
    return {"measure": "pseudo-log-likelihood", "windows": len(numbers)} | results
