"""Probes of a run: the numbers are those of its checkpoints, at the steps asked for, however it is resumed."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.data.text import Text
from jaxgpt.errors import UsageError
from jaxgpt.inference.induction import draw_repeated, head_scores
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.rows import read_rows
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.probe import first_tokens

TEXT = np.random.default_rng(0).integers(5000, size=9000).astype(np.uint16)
SHAPE = ["--n-layer", 2, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--B", 2, "--T", 16]


def test_the_tokens_are_those_that_the_run_reads_first_whatever_its_batch_size():
    data = Text("text", TEXT, "", B=2, T=16)
    expected = np.unique(TEXT[:4096])
    assert (first_tokens(data) == expected).all()
    assert (first_tokens(dataclasses.replace(data, B=64, rows=slice(1, 2))) == expected).all()
    short = dataclasses.replace(data, tokens=TEXT[:50])  # one batch in an epoch
    assert (first_tokens(short) == np.unique(TEXT[:32])).all()


def test_wrong_flags_are_refused():
    for flags in ({"arch": "gated_cnn"}, {"block_size": 1, "T": 1}):
        with pytest.raises(UsageError, match="--probe induction reads the heads of a GPT-2 with a context of 2 tokens"):
            TrainConfig.of(probe="induction", **flags)
    with pytest.raises(UsageError, match="--probe-every 0 is out of range"):
        TrainConfig.of(probe="induction", probe_every=0)
    with pytest.raises(UsageError, match="--probe-every has nothing to measure; name it with --probe induction"):
        TrainConfig.of(probe_every=100)


def run(tmp_path, out, *words):
    words = ["--data", tmp_path / "text.bin", "--out", tmp_path / out, *SHAPE, *words]
    assert console.run(train.main, [str(word) for word in words]) == 0
    times = ("step_ms", "tokens_per_s")
    return [
        {name: value for name, value in row.items() if name not in times}
        for row in read_rows(tmp_path / out / "log.jsonl").values()
    ]


@pytest.mark.slow
def test_a_run_logs_its_scores_and_they_resume_to_the_bit(tmp_path):
    TEXT.tofile(tmp_path / "text.bin")
    probe = ["--probe", "induction", "--probe-every", 2]
    whole = run(tmp_path, "whole", *probe, "--steps", 5, "--save-every", 2)
    run(tmp_path, "parts", *probe, "--steps", 3)
    assert run(tmp_path, "parts", *probe, "--steps", 5) == whole
    columns = {"probe_induction", "probe_previous_token"}
    assert [columns <= row.keys() for row in whole] == [False, True, False, True, False]
    plain = run(tmp_path, "plain", "--steps", 5)
    assert [{name: row[name] for name in row.keys() - columns} for row in whole] == plain

    tokens = jnp.asarray(draw_repeated(np.unique(TEXT[:4096]), 32))
    scores = jax.jit(head_scores)(load(resolve_weights(tmp_path / "whole" / "checkpoints" / "4")), tokens)
    for name, values in scores.items():
        assert whole[3][f"probe_{name}"] == pytest.approx(float(values.max()), abs=1e-6)


@pytest.mark.slow
def test_adapters_are_probed_with_the_weights_under_them(tmp_path):
    TEXT.tofile(tmp_path / "text.bin")
    run(tmp_path, "base", "--steps", 1)
    words = ["--init-from", tmp_path / "base", "--lora", 2, "--lr", 0.1, "--steps", 2, "--probe", "induction"]
    (_, row) = run(tmp_path, "tuned", *words, "--probe-every", 2)
    tokens = jnp.asarray(draw_repeated(np.unique(TEXT[:4096]), 32))
    scores = jax.jit(head_scores)(load(resolve_weights(tmp_path / "tuned")), tokens)
    assert row["probe_induction"] == pytest.approx(float(scores["induction"].max()), abs=1e-6)
