"""Tell texts apart: `python -m jaxgpt.commands.classify train`, then `eval` and `predict` with what was trained."""

import dataclasses
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import numpy as np
import rich.console
import rich.table
import rich.text

from jaxgpt import console
from jaxgpt.console import note, say
from jaxgpt.data import examples
from jaxgpt.data.cache import cache_folder
from jaxgpt.errors import CheckpointError, require
from jaxgpt.inference import metrics
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.folder import require_writable
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.training.config import Preset, TrainConfig
from jaxgpt.training.resume import load_run_config, require_weights
from jaxgpt.training.run import run

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.models.gpt2 import GPT2

LONGEST = 128  # --T where nothing else is said: most sentences are shorter, and a row costs as much as its T
SHOWN = 20  # labels that a confusion matrix is shown for


@dataclasses.dataclass(frozen=True)
class TrainFlags:
    """Train a model, and a head for labels on the last token of each text.

    It is a run of train.py, with its checkpoints and its log, but for the defaults: those with which
    GPT was tuned (Radford et al., 2018, section 4.1), and a cosine in place of the straight line. The same command
    again goes on from the newest checkpoint.
    """

    init_from: str
    """Begin with these weights: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder."""
    data: str
    """A .jsonl, .csv or .tsv of "text" (or "text_a" and "text_b") and "label"."""
    out: Path
    """Run folder: config.json, log.jsonl, checkpoints/."""
    epochs: float = 3
    """How often each example is seen."""
    val: str | None = None
    """What is held out, to measure on: a file like --data, or a fraction of it, such as 0.1, drawn from all of it."""
    eval_every: int = 0
    """Steps between measurements of --val; the last step has one always. 0: only there."""
    B: int = 32
    """Texts per step."""
    T: int = 0
    """Tokens of a text, <|endoftext|> included; longer ones lose their end. 0: 128, or the context if that is less."""
    lr: float = 6.25e-5
    """Learning rate, at its peak. Adapters (--lora) take more, such as 2e-4."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate after the warm-up: held, or a cosine down to a tenth at the last step."""
    warmup_ratio: float = 0.002
    """Share of the steps, 0 to 1, in which the learning rate rises linearly to --lr."""
    weight_decay: float = 0.01
    """AdamW: decoupled weight decay of the weight matrices and embeddings, multiplied by the learning rate."""
    grad_clip: float = 1.0
    """Largest global norm of the gradient; longer ones are scaled down to it. 0: no clipping."""
    dropout: float = 0.1
    """In training, the share of the embedding's and of every sublayer's output that is set to 0."""
    lora: int = 0
    """Rank of low-rank adapters, which are then trained in place of the weights; 0: none."""
    lora_alpha: float = GPT2Config.lora_alpha
    """What the adapters add is multiplied by this, over their rank."""
    lora_on: str = GPT2Config.lora_on
    """Linear layers with adapters, with commas between: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj."""
    seed: int = 0
    """Seed of the head's first weights, of the order of the texts, and of dropout."""
    save_every: int = 1000
    """Steps between checkpoints; the last step is always saved, and Ctrl-C saves too. 0: only then."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""
    fresh: bool = False
    """Start over: delete the checkpoints and the log of the run in --out first."""


@dataclasses.dataclass(frozen=True)
class UseFlags:
    """What eval and predict have in common."""

    run: Annotated[str, *console.place("RUN")]
    """A run on labels, which has its newest checkpoint taken, or one of its checkpoints: RUN/checkpoints/300."""
    data: str
    """A .jsonl, .csv or .tsv of "text" (or "text_a" and "text_b"); for eval with "label"."""
    batch_size: int = 32
    """Texts at a time."""
    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32."""

    def __post_init__(self):
        require(1 <= self.batch_size < 2**16, "batch_size", self.batch_size, "from 1 to 65,535")


@dataclasses.dataclass(frozen=True)
class EvalFlags(UseFlags):
    """Measure on texts with labels: accuracy, F1, Matthews correlation, and what was taken for what."""

    json: Path | None = None
    """Write the numbers to this file too."""


@dataclasses.dataclass(frozen=True)
class PredictFlags(UseFlags):
    """Predict the labels of texts: a line of {"label", "probabilities"} for each, in the order of the file."""

    out: Path | None = None
    """Write them to this new file, and not to stdout."""


COMMANDS = {"train": TrainFlags, "eval": EvalFlags, "predict": PredictFlags}


def main(argv: Sequence[str]) -> int:
    flags = console.parse(console.subcommands(**COMMANDS), argv)
    if isinstance(flags, TrainFlags):
        return train(flags)
    return evaluate(flags) if isinstance(flags, EvalFlags) else predict(flags)


def train(flags: TrainFlags) -> int:
    weights = resolve_weights(flags.init_from)
    config = run_of(flags, weights)
    examples.require_labels(flags.data)
    return run(config, weights)


def run_of(flags: TrainFlags, weights: WeightsRef) -> TrainConfig:
    """The flags of the run as train.py has them."""
    defaults = TrainConfig.from_preset(Preset(init_from=flags.init_from), weights.config)
    T = flags.T or min(LONGEST, weights.config.block_size)
    config = defaults.replace(**vars(flags) | {"T": T, "decay": "matrices"})
    require_weights(config, weights)
    return config


def evaluate(flags: EvalFlags) -> int:
    source, T = find_labelled(flags.run)
    examples.require_labels(flags.data)
    (data,) = examples.load(flags.data, flags.batch_size, T, labels=source.labels)
    if flags.json:
        require_writable("--json", flags.json)
    say("data", str(data))
    log_p = np.concatenate(list(log_probabilities(flags, source, data)))
    truth, n = data.table["labels"], len(source.labels)
    table = metrics.confusion(truth, log_p.argmax(-1), n)
    found = {name: getattr(metrics, name)(table) for name in ("accuracy", "accuracy_stderr", "f1", "mcc")}
    found |= {"n": len(truth), "loss": float(-log_p[range(len(truth)), truth].mean())}
    say("accuracy", f"{found['accuracy']:.4f} ± {found['accuracy_stderr']:.4f} of {found['n']:,}")
    say("F1", f"{found['f1']:.4f}, " + (f"of {source.labels[1]!r}" if n == 2 else "the mean over the labels (macro)"))
    say("MCC", f"{found['mcc']:.4f}, Matthews correlation: 0 is no better than guessing, 1 is all right")
    say("loss", f"{found['loss']:.4f}")
    show(table, source.labels)
    if flags.json:
        found |= {"labels": list(source.labels), "confusion": table.tolist()}
        flags.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
        say("saved", str(flags.json))
    return 0


def predict(flags: PredictFlags) -> int:
    source, T = find_labelled(flags.run)
    data = examples.load_texts(flags.data, flags.batch_size, T, source.labels)
    if flags.out:
        require_writable("--out", flags.out, new=True)
    lines = (line_of(log_p, source.labels) for part in log_probabilities(flags, source, data) for log_p in part)
    if flags.out is None:
        sys.stdout.writelines(lines)
        return 0
    whole = "".join(lines)  # what fails leaves no file
    with flags.out.open("x", encoding="utf-8") as file:
        file.write(whole)
    note(f"{data.count:,} predictions are in {flags.out}")
    return 0


def line_of(log_p: np.ndarray, labels: Sequence[str]) -> str:
    """A prediction as a line of JSON."""
    probabilities = dict(zip(labels, np.exp(log_p).tolist(), strict=True))
    return json.dumps({"label": labels[log_p.argmax()], "probabilities": probabilities}, ensure_ascii=False) + "\n"


def find_labelled(name: str) -> tuple[WeightsRef, int]:
    """A run on labels, and the tokens that a text may have there.

    Raises:
      CheckpointError: it is none.
    """
    source = resolve_weights(name)
    if not source.labels:
        raise CheckpointError(f"{name}: not a run on labels; python -m jaxgpt.commands.classify train makes one")
    return source, load_run_config(source.folder)[0].data.T


def log_probabilities(flags: UseFlags, source: WeightsRef, data: examples.Examples) -> Iterator[np.ndarray]:
    """Of each label, float64 (rows, n_labels), batch after batch, without the rows that fill up the last."""
    import jax

    from jaxgpt.objectives.classification import label_logits
    from jaxgpt.runtime import device

    with device.memory_errors("use a smaller --batch-size"):
        model, logits_of, left = load_model(flags, source, data), jax.jit(label_logits), data.count
        for batch in data.one_pass():
            logits = np.asarray(logits_of(model, *device.put((batch["tokens"], batch["last"]))), np.float64)[:left]
            left -= len(logits)
            largest = logits.max(-1, keepdims=True)
            yield logits - largest - np.log(np.exp(logits - largest).sum(-1, keepdims=True))


def load_model(flags: UseFlags, source: WeightsRef, data: examples.Examples) -> "GPT2":
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    where, shape = device.select(flags.device), source.config
    device.keep_compiled(cache_folder() / "compiled")
    compute = device.compute(flags.dtype, shape.n_layer, shape.n_embd // shape.n_head, data.T)
    note(f"{flags.run}: {shape.n_layer} layers, width {shape.n_embd}, {compute['dtype']}, on {where}")
    for each in data.notes:
        note(f"{data.name}: {each}")
    return load(source, **compute)


def show(table: np.ndarray, labels: Sequence[str]) -> None:
    """Print a confusion matrix."""
    if len(labels) > SHOWN:
        return say("confusion", f"the table of {len(labels)} labels is too wide for a page; --json has it")
    columns = (rich.table.Column(rich.text.Text(label), justify="right") for label in labels)  # a text: no markup
    drawn = rich.table.Table("truth \\ predicted", *columns)
    for label, counts in zip(labels, table.tolist(), strict=True):
        drawn.add_row(rich.text.Text(label), *(f"{count:,}" for count in counts))
    rich.console.Console(width=None if sys.stdout.isatty() else 2000).print(drawn)


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
