"""--pairs: how often a model prefers the answer that was chosen, overall and by group; of rated answers, the AUC."""

import functools
from typing import Any

import numpy as np
import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.commands.evaluate.config import EvaluateConfig, Load, Measure
from jaxgpt.commands.evaluate.tables import print_table
from jaxgpt.data.examples import Examples
from jaxgpt.data.judged import load_judged
from jaxgpt.errors import UsageError
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, require_text_model, resolve_weights

MAX_GROUPS_SHOWN = 50
# What an answer is judged by, in words.
CRITERIA = {
    "log_prob": "log-probability",
    "mean_log_prob": "log-probability a token",
    "implicit_reward": "implicit reward",
    "reward": "reward",
}


def prepare(config: EvaluateConfig, source: WeightsRef) -> Measure:
    reference = None if config.reference is None else find_reference(config, source)
    T = config.choose_T(min(each.config.block_size for each in (source, reference) if each), source.T)
    rows = max(1, config.batch_size // 2)  # of two sequences each
    data, groups = load_judged(config.pairs, rows, T, config.fields, source.tokenizer)
    return functools.partial(measure, config, source, reference, data, groups)


def find_reference(config: EvaluateConfig, source: WeightsRef) -> WeightsRef:
    """The weights of --reference.

    Raises:
      UsageError: the model is no policy, or its tokenizer is another one.
    """
    if source.is_reward:
        raise UsageError(f"--reference: {config.model} is a reward model, and judges alone; leave it out")
    reference = resolve_weights(config.reference)
    require_text_model(reference)
    ours, theirs = source.tokenizer, reference.tokenizer
    if ours.sha256 != theirs.sha256:
        has = f"has {theirs.name} ({theirs.sha256:.12}), and {config.model} {ours.name} ({ours.sha256:.12})"
        remedy = "name weights of the same tokenizer, those that its training began with"
        raise UsageError(f"--reference {config.reference}: {has}; {remedy}")
    return reference


def measure(
    config: EvaluateConfig,
    source: WeightsRef,
    reference: WeightsRef | None,
    data: Examples,
    groups: tuple[str, ...],
    load: Load,
) -> dict[str, Any]:
    from jaxgpt.inference import judging

    reference_log_probs = None if reference is None else score_by_reference(config, reference, data)
    model = load()
    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("pairs", str(data))
    with stage("answers", data.num_rows()) as advance:
        if source.is_reward:
            scores = {"reward": judging.rewards(model, data, advance)}
        else:
            scores = dict(zip(CRITERIA, judging.log_probs(model, data, advance), strict=False))
    if reference_log_probs is not None:
        scores["implicit_reward"] = scores["log_prob"] - reference_log_probs
    results: dict[str, Any] = {"file": data.name} | summarize(data, scores)
    print_results(results)
    if any(groups) and "group" in data.table:
        by_group = {name: data.table["group"] == number for number, name in enumerate(groups)}
        results["groups"] = {name: summarize(data, scores, rows) for name, rows in by_group.items() if rows.any()}
        print_groups(results["groups"])
    return {"pairs": results}


def score_by_reference(config: EvaluateConfig, reference: WeightsRef, data: Examples) -> np.ndarray:
    """The log-probabilities of the answers by other weights, which are let go before the model is read."""
    from jaxgpt.inference import judging, placement
    from jaxgpt.runs.huggingface import load

    compute, described = placement.select_compute(reference.config, config.device, config.dtype)
    console.say("reference", f"{config.reference}: {described}")
    with stage("answers, by the reference", data.num_rows()) as advance:
        return judging.log_probs(load(reference, **compute), data, advance)[0]


def summarize(data: Examples, scores: dict[str, np.ndarray], rows: Any = slice(None)) -> dict[str, Any]:
    """The number of some rows, and how often each score of their answers is right."""
    from jaxgpt.inference.judging import pair_accuracy, rating_auc

    good = data.table.get("good")
    scores = {name: values[rows] for name, values in scores.items()}
    results = {name: pair_accuracy(x) if good is None else rating_auc(x, good[rows]) for name, x in scores.items()}
    return {"n": len(next(iter(scores.values())))} | results


def print_results(results: dict[str, Any]) -> None:
    for name in (name for name in CRITERIA if name in results):
        numbers, text = results[name], f"{format_share(results[name])} of {results['n']:,}, by {CRITERIA[name]}"
        if "reward" in name and "margin" in numbers:
            text += f"; margin {numbers['margin']:.4f} ± {numbers['margin_stderr']:.4f}"
        console.say("AUC" if "auc" in numbers else "accuracy", text)


def print_groups(groups: dict[str, dict[str, Any]]) -> None:
    """A row for each group, and a column for each score."""
    if len(groups) > MAX_GROUPS_SHOWN:
        return console.say("groups", f"the table of {len(groups):,} groups is too long for a page; --json has it")
    names = [name for name in CRITERIA if name in next(iter(groups.values()))]
    table = rich.table.Table("group", "n", *(f"accuracy by {CRITERIA[name]}" for name in names))
    for group, results in groups.items():
        cells = (group or "(none)", f"{results['n']:,}", *(format_share(results[name]) for name in names))
        table.add_row(*(rich.text.Text(console.escape(cell)) for cell in cells))
    print_table(table)


def format_share(numbers: dict[str, float]) -> str:
    share = "auc" if "auc" in numbers else "accuracy"
    return f"{numbers[share]:.4f} ± {numbers[f'{share}_stderr']:.4f}"
