"""Predict the labels of texts: `jaxgpt predict runs/reviews --data new.csv`."""

import dataclasses
import itertools
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import numpy as np

from jaxgpt import console
from jaxgpt.commands.flags import parse, positional
from jaxgpt.data import examples
from jaxgpt.data.config import FieldNames
from jaxgpt.errors import DataError, require
from jaxgpt.files import require_new, require_separate, require_writable, write_whole
from jaxgpt.models.configs import SCORE
from jaxgpt.progress_bar import stage
from jaxgpt.runs.weights import WeightsRef, require_label_model, resolve_weights


@dataclasses.dataclass(frozen=True)
class PredictConfig:
    """Predict the labels of texts: a line of {"label", "probabilities"} for each, in the order of the file.

    A model that gives texts a number writes lines of {"score"}.

    A wrong row is reported, and has a line of {"label": null, "error"}.
    """

    run: Annotated[str, *positional("RUN")]
    """A run on labels, for its newest checkpoint; one of its checkpoints, RUN/checkpoints/300; or a classifier's folder
    in Hugging Face's layout."""
    data: str
    """A .jsonl, .csv or .tsv of "text" (or "text_a" and "text_b"); - reads JSONL or CSV from stdin."""
    text_field: str | None = None
    """Name of "text" in it, or those of "text_a" and "text_b": premise,hypothesis."""
    out: Path | None = None
    """Write them to this new file instead of stdout."""
    batch_size: int = 32
    """Texts at a time."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        require(1 <= self.batch_size < 2**16, "batch_size", self.batch_size, "from 1 to 65,535")


def main(argv: Sequence[str]) -> int:
    config = parse(PredictConfig, argv, command="predict")
    source = resolve_weights(config.run)
    require_label_model(source)
    names = FieldNames(text_field=config.text_field)
    data, errors, lines = examples.load_texts(
        config.data, config.batch_size, source.T, source.labels, names, source.template, source.tokenizer
    )
    if config.out:
        inputs = [("RUN", config.run), ("the weights under it,", source.base), ("--data", config.data)]
        require_writable("--out", config.out)
        require_separate("--out", config.out, inputs)
        require_new("--out", config.out)

    # Imported here and not above, so that a wrong flag or file is refused within a second.
    from jaxgpt.inference import placement
    from jaxgpt.inference.classify import head_outputs, log_probabilities
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    compute, described = placement.select_compute(source.config, config.device, config.dtype, data.T)
    console.note(f"{config.run}: {described}")
    for note in data.notes:
        console.note(f"{data.name}: {note}")
    for line in sorted(errors):
        console.note(f"{errors[line]}; not predicted")
    with device.memory_errors("use a smaller --batch-size"):
        outputs = head_outputs if source.is_regression else log_probabilities
        predicted = itertools.chain.from_iterable(outputs(load(source, **compute), data))

        def answer(line: int) -> str:
            advance(1)
            return format_error(errors[line], source) if line in errors else format_line(next(predicted), source.labels)

        with stage("texts", len(lines), prints=config.out is None) as advance:
            if config.out is None:
                sys.stdout.writelines(map(console.escape_for_terminal, map(answer, lines)))
            else:
                content = "".join(map(answer, lines))  # a failure leaves no file
    if config.out:
        write_whole(config.out, content, new=True)
        console.note(f"{console.plural(data.count, 'prediction')} in {config.out}")
    if errors:
        raise DataError(f"{config.data}: {len(errors):,} of {len(lines):,} rows are wrong; their lines have no label")
    return 0


def format_line(log_p: np.ndarray, labels: Sequence[str]) -> str:
    """A prediction as a line of JSON; log_p (n_labels,) in nats, or for SCORE the number (1,)."""
    if tuple(labels) == SCORE:
        return json.dumps({"score": float(log_p[0])}) + "\n"
    probabilities = dict(zip(labels, np.exp(log_p).tolist(), strict=True))
    return json.dumps({"label": labels[log_p.argmax()], "probabilities": probabilities}, ensure_ascii=False) + "\n"


def format_error(error: DataError, source: WeightsRef) -> str:
    """The line of a row that can't be predicted, which keeps the lines below in step with the file's."""
    missing = {"score": None} if source.is_regression else {"label": None, "probabilities": None}
    return json.dumps(missing | {"error": str(error)}, ensure_ascii=False) + "\n"
