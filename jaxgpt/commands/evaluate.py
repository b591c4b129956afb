"""Measure a model: `jaxgpt evaluate RUN`, with `--data`, `--choices`, `--canaries` or `--tasks`."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import rich.console
import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.commands.flags import parse, positional
from jaxgpt.data import examples, masking
from jaxgpt.data.base import Dataset
from jaxgpt.data.config import FieldNames
from jaxgpt.data.datasets import open_data
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import DataError, UsageError, require
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.inference import memorization, metrics, multiple_choice
from jaxgpt.json_file import replace_nonfinite
from jaxgpt.prepare import canaries
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, require_label_model, require_text_model, resolve_weights
from jaxgpt.training.resume import load_run_config

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.base import Model

MEASUREMENTS = ("data", "choices", "canaries", "tasks")  # flags of what to measure; at least one is required
OPTIONS = {
    "T": ("data",),
    "max_windows": ("data",),
    "limit": ("choices", "tasks"),
    "num_fewshot": ("tasks",),
    "include_path": ("tasks",),
}
MAX_LABELS_SHOWN = 20  # in a confusion matrix
ENCODER_WINDOWS = 64  # of --data by default: each costs as many forward passes as it has tokens


@dataclasses.dataclass(frozen=True)
class EvaluateConfig:
    """Measure how good a model is: its loss on a text, multiple choice, memory, the tasks of EleutherAI's harness.

    For a model of labels, --data alone gives accuracy, F1, Matthews correlation and the confusion matrix; for an
    encoder its bits per masked token, each token of a window hidden in turn (pseudo-log-likelihood).
    """

    model: Annotated[str, *positional("MODEL")]
    """A run folder, a folder in Hugging Face's layout, or gpt2, gpt2-medium, gpt2-large, gpt2-xl (a download)."""
    data: str | None = None
    """A text, .jsonl of {"text"}, a .bin token file, a prepared folder (its val split) or shakespeare; or a .jsonl,
    .csv or .tsv of examples, of which only the completions are measured. For a model of labels: one of "text" (or
    "text_a" and "text_b") and "label"."""
    fields: FieldNames = dataclasses.field(default_factory=FieldNames)
    T: int | None = None
    """Tokens of a window of --data, each of which sees none before the window; by default the model's context."""
    max_windows: int | None = None
    """An encoder: at most so many windows of --data, evenly spaced; by default 64."""
    choices: Path | None = None
    """A JSONL file; a line is {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}."""
    canaries: Path | None = None
    """A prepared folder: how well the model remembers its canaries, made-up secrets that were planted in the text."""
    tasks: str | None = None
    """Tasks of the harness, by name, with commas between: hellaswag,lambada_openai. Their data is a download."""
    limit: int | None = None
    """Only the first so many items of --choices and of each of --tasks."""
    num_fewshot: int | None = None
    """How many solved examples --tasks puts in front of each item; by default the task's own number."""
    include_path: Path | None = None
    """A folder of your own tasks for --tasks, YAML files of the harness."""
    batch_size: int = 8
    """Sequences at a time."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""
    json: Path | None = None
    """Write the results to this new file too, in full."""

    def __post_init__(self):
        if all(getattr(self, name) is None for name in MEASUREMENTS):
            flags = ", ".join(f"--{name}" for name in MEASUREMENTS[:-1]) + f" or --{MEASUREMENTS[-1]}"
            raise UsageError(f"nothing to measure: give {flags}; --help explains them")
        if self.fields.words and self.data is None:
            raise UsageError(f"{self.fields}: they are names in a file of examples; name it with --data")
        for name, lowest in (("T", 1), ("max_windows", 1), ("limit", 1), ("num_fewshot", 0), ("batch_size", 1)):
            if (value := getattr(self, name)) is not None:
                require(lowest <= value < 2**31, name, value, f"from {lowest} to 2**31 - 1")
        for name, of in OPTIONS.items():
            if getattr(self, name) is not None and all(getattr(self, each) is None for each in of):
                flag, required = "--" + name.replace("_", "-"), " or ".join(f"--{each}" for each in of)
                raise UsageError(f"{flag} changes nothing without {required}; leave it out")
        if self.tasks is not None and not all(self.task_names):
            raise UsageError(f"--tasks {self.tasks!r}: a name is empty; give names with commas between them")
        if self.include_path is not None and not self.include_path.is_dir():
            raise UsageError(f"--include-path {self.include_path}: no such folder; give a folder of YAML files")

    @property
    def task_names(self) -> list[str]:
        return [name.strip() for name in (self.tasks or "").split(",")]


def main(argv: Sequence[str]) -> int:
    config = parse(EvaluateConfig, argv, command="evaluate")
    source = resolve_weights(config.model)
    if source.labels and config.data is not None:
        return evaluate_labels(config, source)
    if source.config.bidirectional and not source.labels:
        return evaluate_encoder(config, source)
    require_text_model(source)
    if config.max_windows is not None:
        raise UsageError(f"--max-windows: {config.model} is no encoder, and reads all of --data; leave it out")
    data = None if config.data is None else open_text(config, source)
    items = None
    if config.choices is not None:
        items = multiple_choice.read_items(config.choices, source.config.block_size, source.tokenizer)[: config.limit]
    planted = None if config.canaries is None else read_canaries(config.canaries, source)
    require_json(config, source)
    tasks = None
    if config.tasks is not None:
        with stage("reading the tasks"):
            from jaxgpt.inference import harness

            tasks = harness.load_tasks(config.task_names, config.include_path, config.num_fewshot)
    from jaxgpt.runtime import device

    results: dict[str, Any] = {"model": config.model}
    with device.memory_errors("use a smaller --batch-size"):
        model = load_model(config, source)
        if data is not None:
            results |= measure_text(data, model)
        if items is not None:
            results["choices"] = measure_choices(config, items, model)
        if planted is not None:
            results["canaries"] = measure_canaries(config, *planted, model, source.tokenizer)
        if tasks is not None:
            with stage("tasks"):
                lm = harness.JaxgptLM(model, config.batch_size, tokenizer=source.tokenizer)
                results["tasks"] = harness.evaluate(lm, tasks, config.limit)
    if "canaries" in results:
        print_table(memorization.make_table(results["canaries"]))
        print(memorization.EXPLANATION)
    if "tasks" in results:
        print_tasks(results["tasks"])
    save_results(config, results)
    return 0


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


def open_text(config: EvaluateConfig, source: WeightsRef) -> Dataset:
    context = source.config.block_size
    if (config.T or 1) > context:
        raise UsageError(f"--T {config.T} is above the model's context of {context:,} tokens; use a smaller one")
    data = open_data(
        config.data,
        config.batch_size,
        config.T or context,
        split="val",
        horizon=source.config.predict_tokens,
        fields=config.fields,
        tokenizer=source.tokenizer,
    )
    if data.kind == "labels":
        train = console.program("train")
        raise DataError(f"{config.data}: texts with labels, for a model of labels; {train} --recipe classify makes one")
    if data.kind == "text" and len(data.tokens) < 2:
        raise DataError(f"{config.data}: one token predicts nothing; use a longer text")
    return data


def measure_text(data: Dataset, model: Any) -> dict[str, float]:
    import jax

    from jaxgpt.objectives import choose_objective
    from jaxgpt.runtime import device
    from jaxgpt.training.validation import format_metrics, summarize

    for note in data.notes:
        console.say("note", f"{data.name}: {note}")
    console.say("data", f"{data}; windows of {data.T:,}")
    objective = choose_objective(data.kind, predict_tokens=model.config.predict_tokens)
    measure = jax.jit(objective.validation_metrics)

    def metrics() -> Iterator[dict[str, Any]]:
        for batch in data.one_pass():
            yield jax.device_get(measure(model, device.put(batch)))
            advance(data.B)

    with stage("windows", data.num_rows()) as advance:
        numbers = summarize(metrics(), data.num_bytes())
    console.say("loss", format_metrics(numbers).removeprefix("loss "))
    return numbers


def evaluate_encoder(config: EvaluateConfig, source: WeightsRef) -> int:
    """Measure an encoder: its pseudo-log-likelihood of a text."""
    if unusable := [name for name in MEASUREMENTS[1:] if getattr(config, name) is not None]:
        what = "an encoder, measured by --data alone: it predicts no continuation"
        raise UsageError(f"--{unusable[0]}: {config.model} is {what}; leave it out")
    data = open_text(config, source)
    tokenizer = source.tokenizer
    if data.kind != "text":
        raise DataError(f"{config.data}: {data.kind}, which an encoder does not write; use a text")
    require_json(config, source)

    from jaxgpt.inference.pseudo_likelihood import pseudo_likelihood
    from jaxgpt.runtime import device
    from jaxgpt.training.validation import format_metrics, summarize

    total = masking.num_windows(data, data.T)
    numbers = masking.evenly_spaced(total, config.max_windows or ENCODER_WINDOWS)
    windows = masking.cut_windows(data, tokenizer, data.T, numbers)
    with device.memory_errors("use a smaller --batch-size"):
        model = load_model(config, source, data.T)
        console.say(
            "data", f"{data}; {len(numbers):,} of its {total:,} windows of {data.T:,}, each token hidden in turn"
        )
        with stage("windows", len(numbers)) as advance:
            ordinary, options = masking.ordinary_tokens(tokenizer), (config.batch_size, advance)
            results = summarize(pseudo_likelihood(model, windows, tokenizer.mask, ordinary, *options))
    if not results["n"]:
        what = f"no token to measure in windows of {data.T:,}"
        raise DataError(f"{config.data}: {what}; use a larger --T, or another text")
    console.say("loss", f"{format_metrics(results).removeprefix('loss ')}")
    save_results(config, {"model": config.model, "measure": "pseudo-log-likelihood", "windows": len(numbers)} | results)
    return 0


def measure_choices(config: EvaluateConfig, items: list[multiple_choice.Item], model: Any) -> dict[str, float | int]:
    from jaxgpt.inference.score import is_cut, score

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
    return results | {"cut": cut}


def evaluate_labels(config: EvaluateConfig, source: WeightsRef) -> int:
    """Measure a model of labels: accuracy, F1, Matthews correlation, and the confusion matrix."""
    require_label_model(source)
    if unusable := [name for name in ("T", "max_windows", *MEASUREMENTS[1:]) if getattr(config, name) is not None]:
        raise UsageError(f"--{unusable[0]}: {config.model} predicts labels, measured by --data alone; leave it out")
    data = examples.load_labelled(
        config.data, config.batch_size, source.T, source.labels, config.fields, source.template, source.tokenizer
    )
    require_json(config, source)

    from jaxgpt.inference.classify import log_probabilities
    from jaxgpt.runtime import device

    with device.memory_errors("use a smaller --batch-size"):
        model = load_model(config, source, data.T)
        for note in data.notes:
            console.say("note", f"{data.name}: {note}")
        console.say("data", str(data))
        parts = []
        with stage("texts", data.count) as advance:
            for part in log_probabilities(model, data):
                parts.append(part)
                advance(len(part))
    results = compute_label_metrics(np.concatenate(parts), data.table["labels"])
    console.say("accuracy", f"{results['accuracy']:.4f} ± {results['accuracy_stderr']:.4f} of {results['n']:,}")
    scope = f"of {source.labels[1]!r}" if len(source.labels) == 2 else "the mean over the labels (macro)"
    console.say("F1", f"{results['f1']:.4f}, {scope}")
    console.say("MCC", f"{results['mcc']:.4f}, Matthews correlation: 0 is no better than guessing, 1 is all right")
    console.say("loss", f"{results['loss']:.4f}")
    print_confusion(results["confusion"], source.labels)
    confusion = results.pop("confusion")
    save_results(config, results | {"labels": list(source.labels), "confusion": confusion})
    return 0


def compute_label_metrics(log_p: np.ndarray, truth: np.ndarray) -> dict[str, Any]:
    """A classifier's metrics from log probabilities (n, n_labels) and the true labels (n,)."""
    table = metrics.confusion(truth, log_p.argmax(-1), log_p.shape[-1])
    results = {name: getattr(metrics, name)(table) for name in ("accuracy", "accuracy_stderr", "f1", "mcc")}
    loss = float(-log_p[range(len(truth)), truth].mean())
    return results | {"n": len(truth), "loss": loss, "confusion": table.tolist()}


def print_confusion(table: list[list[int]], labels: Sequence[str]) -> None:
    """Print a confusion matrix: a row for each true label."""
    if len(labels) > MAX_LABELS_SHOWN:
        return console.say("confusion", f"the table of {len(labels)} labels is too wide for a page; --json has it")
    names = [rich.text.Text(console.escape(label)) for label in labels]  # a text: no markup
    columns = (rich.table.Column(name, justify="right") for name in names)
    grid = rich.table.Table("truth \\ predicted", *columns)
    for name, counts in zip(names, table, strict=True):
        grid.add_row(name, *(f"{count:,}" for count in counts))
    rich.console.Console(width=None if sys.stdout.isatty() else 2000).print(grid)


def read_canaries(folder: Path, source: WeightsRef) -> tuple[list[canaries.Canary], bool]:
    """The canaries of a folder, and whether the model is a run whose flags name it, or a file in it, as its text."""
    planted, context = canaries.read(folder), source.config.block_size
    if (needed := sum(map(len, memorization.make_request(source.tokenizer, planted[0].secret))) - 1) > context:
        raise UsageError(f"--canaries: each needs {needed} tokens, and the model's context is {context:,}; use another")
    if not source.is_run or source.folder is None:
        return planted, False
    data = Path(load_run_config(source.folder)[0].data.data).resolve()
    return planted, folder.resolve() in (data, data.parent)


def measure_canaries(
    config: EvaluateConfig, planted: list[canaries.Canary], trained: bool, model: Any, tokenizer: Tokenizer
) -> dict[str, Any]:
    from jaxgpt.inference.score import Score, score

    console.say("canaries", f"{config.canaries}: {len(planted):,}")
    if not trained:
        console.say(
            "note", f"{config.model} is no run with that folder as its --data: a control, if it never saw the text"
        )
    with stage("canaries", memorization.REFERENCES + 2 * len(planted)) as advance:

        def score_all(requests: list[memorization.Request]) -> list[Score]:
            return score(model, requests, config.batch_size, advance)

        results = memorization.measure(planted, tokenizer, score_all)
    return {"folder": str(config.canaries), "trained": trained} | results


def print_tasks(results: dict[str, Any]) -> None:
    """The harness's results as a table: a row for each metric of a task."""
    table = rich.table.Table("task", "version", "shots", "n", "metric", "value", "± stderr")
    for task, values in results["results"].items():
        for key, value in values.items():
            metric, _, filtered = key.partition(",")
            if not filtered or metric.endswith("_stderr") or not isinstance(value, int | float):
                continue
            error = values.get(f"{metric}_stderr,{filtered}")
            cells = (
                task,
                str(results["versions"].get(task, "")),
                str(results["n-shot"].get(task, "")),
                str(results["n-samples"].get(task, {}).get("effective", "")),
                metric if filtered == "none" else key,
                f"{value:.4f}",
                f"{error:.4f}" if isinstance(error, float) else "",
            )
            table.add_row(*(rich.text.Text(console.escape(cell)) for cell in cells))
    print_table(table)


def print_table(table: rich.table.Table) -> None:
    terminal = rich.console.Console()
    if not terminal.is_terminal:
        terminal.width = 160  # a file has no width; a cut table would be useless
    terminal.print(table)
