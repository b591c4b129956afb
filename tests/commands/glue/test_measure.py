"""What is kept of outputs; test_glue.py has outputs of trained models."""

import numpy as np

from jaxgpt.commands.glue import measure
from jaxgpt.commands.glue.config import GlueConfig
from jaxgpt.data.benchmarks.tasks import read_tasks
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.weights import WeightsRef

RTE = next(task for task in read_tasks() if task.name == "RTE")


def test_outputs_are_computed_again_where_the_run_or_the_texts_are_others(tmp_path, monkeypatch):
    computed = []

    def compute_outputs(config, source, data):
        computed.append(data.name)
        return np.full((2, 2), len(computed), np.float32)

    source = WeightsRef("run", GPT2Config(), is_run=True, folder=tmp_path, labels=("no", "yes"))
    monkeypatch.setattr(measure, "resolve_weights", lambda folder: source)
    monkeypatch.setattr(measure, "compute_outputs", compute_outputs)
    log, data = tmp_path / "run" / "log.jsonl", tmp_path / "data" / "RTE" / "RTE-dev.jsonl"
    for path in (log, data, tmp_path / "outputs" / "x"):
        path.parent.mkdir(parents=True)
        path.write_text("first\n")
    config = GlueConfig(tmp_path, "gpt2", out=tmp_path)

    def read():
        outputs, labels = measure.read_outputs(config, RTE, "run", "RTE-dev")
        assert labels == ("no", "yes")
        return outputs[0, 0]

    kept = tmp_path / "outputs" / "run-RTE-dev.npy"
    assert (read(), read()) == (1, 1)
    for path, content in ((log, "other\n"), (data, "other\n"), (kept, "no array"), (kept, kept.read_bytes()[:80])):
        before = len(computed)
        path.write_bytes(content) if isinstance(content, bytes) else path.write_text(content)
        assert (read(), read()) == (before + 1, before + 1)


def test_the_score_is_the_mean_of_metrics_and_of_sets():
    mnli = next(task for task in read_tasks() if task.name == "MNLI")
    numbers = {"MNLI-m": {3: {"accuracy": 0.2}}, "MNLI-mm": {3: {"accuracy": 0.6}}, "AX": {3: {"accuracy": 1.0}}}
    assert measure.score(mnli, numbers, 3) == np.mean([0.2, 0.6])
    rte = {"RTE": {0: {"accuracy": 0.5, "f1": 0.7}}}
    assert measure.score(RTE, rte, 0) == np.mean([0.5, 0.7])
