"""--canaries: how well a model remembers made-up secrets that were planted in its text."""

import functools
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.commands.evaluate.tables import print_table
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.inference import memorization
from jaxgpt.prepare import canaries
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef
from jaxgpt.training.resume import load_run_config

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.score import Score


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    planted, trained = read(config.canaries, source)
    return functools.partial(measure, config, planted, trained, source.tokenizer)


def read(folder: Path, source: WeightsRef) -> tuple[list[canaries.Canary], bool]:
    """The canaries of a folder, and whether the model is a run whose flags name it, or a file in it, as its text."""
    planted, context = canaries.read(folder), source.config.block_size
    if (needed := sum(map(len, memorization.make_request(source.tokenizer, planted[0].secret))) - 1) > context:
        raise UsageError(f"--canaries: each needs {needed} tokens, and the model's context is {context:,}; use another")
    if not source.is_run or source.folder is None:
        return planted, False
    data = Path(load_run_config(source.folder)[0].data.data).resolve()
    return planted, folder.resolve() in (data, data.parent)


def measure(
    config: EvaluateConfig, planted: list[canaries.Canary], trained: bool, tokenizer: Tokenizer, load: Load
) -> dict[str, Any]:
    from jaxgpt.inference.score import score

    model = load()
    console.say("canaries", f"{config.canaries}: {len(planted):,}")
    if not trained:
        console.say(
            "note", f"{config.model} is no run with that folder as its --data: a control, if it never saw the text"
        )
    with stage("canaries", memorization.REFERENCES + 2 * len(planted)) as advance:

        def score_all(requests: list[memorization.Request]) -> "list[Score]":
            return score(model, requests, config.batch_size, advance)

        results = memorization.measure(planted, tokenizer, score_all)
    results = {"folder": str(config.canaries), "trained": trained} | results
    print_table(memorization.make_table(results))
    print(memorization.EXPLANATION)
    return {"canaries": results}
