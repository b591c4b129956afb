"""--generate: written answers to prompts, by their references."""

import functools
import json
from typing import Any

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.data.references import AnsweredPrompts, load_references, strip_separator
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.files import write_whole
from jaxgpt.inference.answer_metrics import Score, require_metrics, score_answers
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef

DEFAULT_METRICS = ("exact", "f1")
DEFAULT_NEW_TOKENS = 128


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    require_metrics(config.metrics or DEFAULT_METRICS)
    data = load_references(config.generate, config.fields, source.tokenizer)
    return functools.partial(measure, config, data.take(range(len(data))[: config.limit]), source.tokenizer)


def measure(config: EvaluateConfig, data: AnsweredPrompts, tokenizer: Tokenizer, load: Load) -> dict[str, Any]:
    from jaxgpt.inference.complete import complete
    from jaxgpt.inference.sampling import make_sampling_params

    model, n = load(), len(data)
    temperature, top_k, top_p = config.temperature or 0.0, config.top_k or 0, config.top_p or 1.0
    max_new_tokens, seed = config.max_new_tokens or DEFAULT_NEW_TOKENS, config.seed or 0
    cut = sum(len(tokens) > model.config.block_size for tokens in data.tokens)
    how = f"temperature {temperature:g}" if temperature else "the likeliest tokens"
    too_long = f"; {cut:,} too long for the model's context, cut from the left" if cut else ""
    console.say(
        "generate", f"{data.name}: {console.plural(n, 'prompt')}, {how}, at most {max_new_tokens:,} tokens{too_long}"
    )
    sampling = make_sampling_params(temperature, top_k, top_p, stop=tokenizer.end)
    with stage("answers", n) as advance:
        written = complete(model, data.tokens, max_new_tokens, config.batch_size, sampling, seed, advance)
    answers = [strip_separator(tokenizer.decode(ids)) for ids in written]
    tokens, ended = sum(map(len, written)) / n, sum(len(ids) < max_new_tokens for ids in written)
    console.say("answers", f"{tokens:,.1f} tokens each, {ended:,} of {n:,} ended by themselves")
    scores = score_answers(config.metrics or DEFAULT_METRICS, answers, data.references)
    for name, score in scores.items():
        console.say(name, format_score(score))
    save_answers(config, data, answers, scores)
    results = {"file": data.name, "n": n, "cut": cut, "temperature": temperature, "top_k": top_k, "top_p": top_p}
    results |= {"seed": seed, "max_new_tokens": max_new_tokens, "tokens": tokens, "ended": ended}
    return {"generate": results | {name: as_json(score) for name, score in scores.items()}}


def format_score(score: Score) -> str:
    """A score with its interval, and its signature, if it has one."""
    digits = 2 if score.signature.startswith("nrefs") else 4
    interval = f"{score.low:.{digits}f} to {score.high:.{digits}f}"
    return f"{score.value:.{digits}f} ({interval})" + f"  {score.signature}" * bool(score.signature)


def as_json(score: Score) -> dict[str, Any]:
    numbers = {"score": float(score.value), "low": score.low, "high": score.high}
    return numbers | ({"signature": score.signature} if score.signature else {})


def save_answers(config: EvaluateConfig, data: AnsweredPrompts, answers: list[str], scores: dict[str, Score]) -> None:
    """Write --answers: a line for each prompt, in the order of the file."""
    if config.answers is None:
        return
    lines = []
    for number, answer in enumerate(answers):
        record = {"line": data.lines[number]} if data.ids[number] is None else {"id": data.ids[number]}
        record |= {"prompt": data.prompts[number], "answer": answer, "references": data.references[number]}
        record |= {name: float(score.items[number]) for name, score in scores.items()}
        lines.append(json.dumps(record, ensure_ascii=False) + "\n")
    write_whole(config.answers, "".join(lines), new=True)
    console.say("saved", f"{config.answers}: the answers")
