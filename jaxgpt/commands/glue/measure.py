"""The runs of a task on its validation and test sets: their outputs, kept on disk, and their metrics."""

import hashlib
import io
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from jaxgpt import console
from jaxgpt.commands.glue.config import GlueConfig
from jaxgpt.data import examples
from jaxgpt.data.benchmarks.predictions import format_answers, make_answers
from jaxgpt.data.benchmarks.readers import read_dev, read_test
from jaxgpt.data.benchmarks.tasks import Task
from jaxgpt.files import new_file, write_whole
from jaxgpt.inference.task_metrics import compute
from jaxgpt.runs.weights import WeightsRef, resolve_weights

Numbers = dict[int, dict[str, float]]  # the metrics of a set, by seed and by name


def measure_task(config: GlueConfig, task: Task, runs: Mapping[int, str]) -> dict[str, Numbers]:
    """The metrics of each validation set, by its name. Writes the predictions of the best seed, too.

    Args:
      runs: for each seed the name of its run.
    """
    numbers: dict[str, Numbers] = {}
    for each in task.sets:
        if split := read_dev(task, each, config.folder):
            numbers[each.name] = {}
            for seed, name in runs.items():
                answers = make_answers(task, split.items, *read_outputs(config, task, name, f"{each.name}-dev"))
                positive = task.labels[-1] if task.labels else ""
                numbers[each.name][seed] = {metric: compute(metric, answers, positive) for metric in each.metrics}
    best = max(runs, key=lambda seed: score(task, numbers, seed))
    for each in task.sets:
        if split := read_test(task, each, config.folder):
            answers = make_answers(task, split.items, *read_outputs(config, task, runs[best], f"{each.name}-test"))
            path = config.out / "predictions" / f"{each.name}.{task.predictions}"
            write_whole(path, format_answers(task, answers))
            console.say("saved", f"{path}: {console.plural(len(answers), 'prediction')} of seed {best}")
    return numbers


def score(task: Task, numbers: Mapping[str, Numbers], seed: int) -> float:
    """The score of a task, as the leaderboards have it: the mean of its metrics, and over its sets."""
    sets = [numbers[each.name][seed] for each in task.sets if not each.diagnostic]
    return float(np.mean([np.mean([*metrics.values()]) for metrics in sets]))


def read_outputs(config: GlueConfig, task: Task, run: str, name: str) -> tuple[np.ndarray, tuple[str, ...]]:
    """A run's outputs for a file of examples, float32 (items, labels), and the labels.

    They are kept in outputs/, and computed again when the run or the examples have changed.
    """
    folder, data = config.out / run, config.examples_path(task.name, name)
    source = resolve_weights(folder)
    contents = ((folder / "log.jsonl").read_bytes(), data.read_bytes(), repr(source.labels).encode())
    key = hashlib.sha256(b"".join(hashlib.sha256(content).digest() for content in contents)).hexdigest()
    path = config.out / "outputs" / f"{run}-{name}.npy"
    if (kept := _read(path, key)) is None:
        kept = compute_outputs(config, source, data)
        _write(path, key, kept)
    return kept, source.labels


def compute_outputs(config: GlueConfig, source: WeightsRef, data: Path) -> np.ndarray:
    """As `read_outputs`, by the model."""
    from jaxgpt.inference import placement
    from jaxgpt.inference.classify import collect, head_outputs
    from jaxgpt.runs.huggingface import load
    from jaxgpt.runtime import device

    texts, errors, _ = examples.load_texts(
        str(data), config.batch_size, source.T, source.labels, tokenizer=source.tokenizer
    )
    if errors:
        raise errors[min(errors)]
    compute, _ = placement.select_compute(source.config, config.device, config.dtype, texts.T)
    with device.memory_errors("use a smaller --batch-size"):
        return collect(head_outputs(load(source, **compute), texts), texts.count).astype(np.float32)


def _read(path: Path, key: str) -> np.ndarray | None:
    try:
        content = path.read_bytes()
        head, body = content[:64], content[64:]
        return np.load(io.BytesIO(body), allow_pickle=False) if head == key.encode() else None
    except (OSError, ValueError, EOFError):  # missing, or not what was written
        return None


def _write(path: Path, key: str, outputs: np.ndarray) -> None:
    file = io.BytesIO()
    np.save(file, outputs)
    with new_file(path) as temporary:
        temporary.write_bytes(key.encode() + file.getvalue())
