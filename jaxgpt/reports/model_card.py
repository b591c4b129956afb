"""A model card: what a run's folder records of it, as the Hugging Face hub's cards and Mitchell et al. (2019) have it.

What nobody has recorded is said to be so, and no document is quoted.
"""

from typing import Any

import numpy as np

from jaxgpt.data import shards
from jaxgpt.errors import DataError
from jaxgpt.json_file import try_read_json
from jaxgpt.reports.cards import INTENDED, read_object
from jaxgpt.reports.evaluations import find_evaluations, flatten_numbers
from jaxgpt.reports.logged_run import LoggedRun
from jaxgpt.reports.markdown import (
    escape_markdown,
    join_parts,
    render_facts,
    render_front_matter,
    render_list,
    render_rows,
    render_section,
)
from jaxgpt.reports.tables import describe_data, find_data, list_starts, show_time
from jaxgpt.runs.folder import LINEAGE
from jaxgpt.runs.hub import HUB, OWNER
from jaxgpt.runs.weights import WeightsRef

FLAGS = ("recipe", "objective", "steps", "epochs", "B", "T", "accumulate", "order", "optimizer", "lr", "schedule")
FLAGS += ("warmup_ratio", "min_lr_ratio", "beta1", "beta2", "eps", "weight_decay", "grad_clip", "dropout", "lora")
MAX_NUMBERS = 60  # shown of an evaluation
EXTRACTABLE = "No differential privacy is recorded. Assume that anyone who can use the model can extract text from it."
PRIVATE = (
    "The bound holds for one such unit of this run's data. It does not hold for the data of the weights that the run "
    "began with, nor for what the validation's numbers and this card reveal."
)
NO_SECRET = "Its noise is made of a number that is no secret, --dp-seed: to whoever knows that, nothing is promised."
ANOTHER = "The file of an evaluation does not record which checkpoint was measured; it may be another one than this."


def choose_task(source: WeightsRef) -> str:
    """What transformers calls what a model does."""
    if source.labels:
        return "text-classification"
    return "fill-mask" if source.config.bidirectional else "text-generation"


def render_model_card(run: LoggedRun, source: WeightsRef, step: int, parameters: int, licence: str | None) -> str:
    """The card of a run's model.

    Args:
      step: how many steps the run had done then.
      parameters: their number.
      licence: by its name on the hub; None: it is not recorded.
    """
    meta = _read_meta(run)
    flags = read_object(meta, "flags")
    task, languages, init_from = choose_task(source), flags.get("language"), run.config.get("init_from")
    front = {"library_name": "transformers", "pipeline_tag": task, "license": licence, "tags": ["jaxgpt"]}
    front |= {"base_model": f"{OWNER}/{init_from}" if init_from in HUB else None, "language": languages}
    front |= {"datasets": [*_hub_names(flags.get("inputs"))]}
    details = {"Developed by": None, "Model type": source.config.title, "Language(s)": languages, "License": licence}
    details |= {"Finetuned from": init_from or "random weights"}
    shape = {name: getattr(source.config, name) for name in source.config.shape}
    shape |= {"vocab_size": source.config.vocab_size, "tokenizer, SHA-256": run.config.get("tokenizer_sha256")}
    row = int(np.searchsorted(run.history.steps, step)) - 1  # of the log: the last step that these weights have
    bias = _describe_evaluation(run, row, of_bias=True)
    parts = [
        render_front_matter(front),
        f"# Model card of {escape_markdown(run.folder.resolve().name)}",
        "Rendered by `jaxgpt export` from what the run's folder records. It quotes no document.",
        render_section(2, "Model Details", render_list(details), render_facts({"parameters": parameters} | shape)),
        render_section(2, "Uses", INTENDED),
        render_section(2, "How to Get Started with the Model", START.format(task=task)),
        "## Training Details",
        render_section(3, "Training Data", render_facts(_describe_data(run, meta, row))),
        render_section(3, "Training Procedure", render_facts(_describe_training(run, step, row))),
        render_section(2, "Evaluation", *_describe_evaluation(run, row, of_bias=False)),
        render_section(2, "Bias, Risks, and Limitations", *(bias or [UNMEASURED])),
        render_section(2, "Privacy", *_describe_privacy(run, row)),
        render_section(2, "Lineage", *_describe_lineage(run)),
        render_section(2, "License", escape_markdown(licence or "")),
    ]
    return join_parts(parts)


START = """```python
from transformers import pipeline

model = pipeline("{task}", "FOLDER")  # the folder of this file
```"""
UNMEASURED = "Bias was not measured. The model has whatever bias its training text has."


def _read_meta(run: LoggedRun) -> dict[str, Any]:
    """The meta.json of the prepared folder that a run was trained on, if that is there and has not changed since."""
    if (folder := find_data(run)) is None:
        return {}
    try:
        train = shards.open_split(folder, "train", shards.read_tokenizer(folder))
        return shards.read_meta(folder) if train.fingerprint == run.config["fingerprint"] else {}
    except DataError:
        return {}


def _hub_names(inputs: Any) -> list[str]:
    names = [name for name in inputs if isinstance(name, str)] if isinstance(inputs, list) else []
    return ["/".join(name.removeprefix("hf://").split("/")[:2]) for name in names if name.startswith("hf://")]


def _at(run: LoggedRun, column: str, row: int) -> float | None:
    """A number of a row of the log; None: it has none."""
    return float(value) if row >= 0 and np.isfinite(value := run.history[column][row]) else None


def _describe_data(run: LoggedRun, meta: dict[str, Any], row: int) -> dict[str, Any]:
    seen = _at(run, "tokens_seen", row)
    facts = describe_data(run) | {"tokens trained on": None if seen is None else int(seen)}
    facts.pop("prepared folder", None)  # a path of this machine; its name is the corpus's
    if meta and seen is not None:
        facts["epochs"] = seen / meta["splits"]["train"]["tokens"]
    return facts | {"erased since it was prepared": "yes: see the data card"} if meta.get(shards.ERASURES) else facts


def _describe_training(run: LoggedRun, step: int, row: int) -> dict[str, Any]:
    config, start = run.config, (list_starts(run) or [{}])[-1]
    facts = {"steps done": step} | {name: config[name] for name in FLAGS if config.get(name) is not None}
    facts |= {"hardware": config.get("device_name"), "dtype": start.get("dtype"), "mesh": start.get("mesh")}
    facts |= {"processes": start.get("processes"), "starts of the run": len(list_starts(run))}
    facts["time in steps"] = show_time(float(run.history.seconds()[row])) if row >= 0 else None
    return facts | {f"version of {name}": version for name, version in read_object(config, "versions").items()}


def _describe_evaluation(run: LoggedRun, row: int, of_bias: bool) -> list[str]:
    """The numbers of the last validation and of the evaluations in the folder, of bias or the others."""
    rows = run.history.validated()
    rows = rows[rows <= row]
    parts, title = [], "number"
    if len(rows):
        last = int(rows[-1])
        names = [name for name in run.history.columns if name.startswith(("val_", "bias_"))]
        numbers = {name: _at(run, name, last) for name in names if ("bias_" in name) == of_bias}
        table = render_rows((title, f"validation after {run.history.steps[last] + 1:,} steps"), _known(numbers))
        parts += [table] if table else []
    for name, content in find_evaluations(run.folder).items():
        numbers = {each: number for each, number in flatten_numbers(content) if each.startswith("bias") == of_bias}
        if numbers:
            parts.append(render_rows((title, escape_markdown(name)), [*numbers.items()][:MAX_NUMBERS]))
            parts += [f"The first {MAX_NUMBERS} of {len(numbers):,} numbers."] * (len(numbers) > MAX_NUMBERS)
    return [*parts, ANOTHER] if len(parts) > bool(len(rows)) else parts


def _known(numbers: dict[str, Any]) -> list[tuple[str, Any]]:
    return [(name, number) for name, number in numbers.items() if number is not None]


def _describe_privacy(run: LoggedRun, row: int) -> list[str]:
    record = read_object(run.config, "privacy")
    if not record:
        return [EXTRACTABLE]
    spent = _at(run, "epsilon", row)
    known = [NO_SECRET] if record.get("is_secret") is False else []
    return [render_facts(record | {"epsilon of the steps done": spent}), PRIVATE, *known]


def _describe_lineage(run: LoggedRun) -> list[str]:
    """What lineage.json has; of a run without one, which weights and data it began with."""
    lineage = try_read_json(run.folder / LINEAGE)
    if not isinstance(lineage, dict):
        began = run.config.get("init_from") or "random weights"
        return [render_facts({"began with": began, "seed": run.config.get("seed")})]
    facts = {name: lineage.get(name) for name in ("run", "created", "promoted")}
    parents = [[each.get(name) for name in ("run", "id", "step")] for each in _objects(lineage, "parents")]
    data = [[each.get(name) for name in ("name", "fingerprint", "share", "role")] for each in _objects(lineage, "data")]
    names = ("name", "before", "after", "limit", "passed")
    gates = [[each.get(name) for name in names] for each in _objects(lineage, "gates")]
    return [
        render_facts(facts),
        render_rows(("parent", "id", "step"), parents),
        render_rows(("data", "fingerprint", "share", "role"), data),
        render_rows(("gate", *names[1:]), gates),
    ]


def _objects(content: dict[str, Any], name: str) -> list[dict[str, Any]]:
    value = content.get(name)
    return [each for each in value if isinstance(each, dict)] if isinstance(value, list) else []
