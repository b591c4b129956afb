"""Bias while a run trains: evaluate's numbers, no other bit changed, and a gate."""

import dataclasses
import json
import os
import signal

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, train
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.errors import DataError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.rows import read_rows
from jaxgpt.training.bias import BiasMonitor, format_bias, load_monitor
from jaxgpt.training.bias_config import BiasConfig
from tests.support.kill import saved_bits
from tests.support.models import random_model

PAIRS = [{"more": "She sat.", "less": "He sat."}, {"more": "A cat.", "less": "A dog."}]
TEXT = "He ran.\n\nShe sat.\n\nNo."
SHAPE = ["--n-layer", 1, "--n-head", 1, "--n-embd", 16, "--block-size", 32, "--tokenizer", "bytes", "--device", "cpu"]


@pytest.fixture
def flags(write):
    return {"bias": write("pairs.jsonl", PAIRS), "bias_text": write("text.txt", TEXT)}


def test_it_is_measured_when_it_is_due_unless_a_signal_came(flags):
    assert load_monitor(BiasConfig(), ByteTokenizer(), 32, False) is None
    monitor = load_monitor(BiasConfig(**flags, bias_every=4), ByteTokenizer(), 32, False)
    monitor = dataclasses.replace(monitor, steps=10)
    assert [step for step in range(1, 11) if monitor.due(step)] == [4, 8, 10]
    assert [step for step in range(1, 11) if dataclasses.replace(monitor, every=0).due(step)] == [10]
    assert str(monitor) == "2 pairs, 2 paragraphs with 2 swapped words"
    model = random_model(GPT2Config(vocab_size=257, block_size=32, n_layer=1, n_head=2, n_embd=16))
    numbers = monitor(model)
    names = ["preferred", "log_odds", "log_odds_stderr", "gap", "gap_stderr", "gap_per_token"]
    assert [*numbers] == [f"bias_{name}" for name in names]
    assert format_bias(numbers).startswith(f"preferred {numbers['bias_preferred']:.4f}, log_odds ")
    asked = iter([False, True])
    assert dataclasses.replace(monitor, interrupted=lambda: next(asked))(model) == {}
    with pytest.raises(DataError, match=r"nowhere\.csv: no such file"):
        load_monitor(BiasConfig(bias="nowhere.csv"), ByteTokenizer(), 32, False)


def test_either_mean_may_be_too_far_from_0():
    gate = BiasMonitor(None, None, max_bias=0.5)
    for numbers, refused in (
        ({}, False),
        ({"bias_log_odds": -0.5, "bias_gap": 0.5}, False),
        ({"bias_log_odds": -0.6, "bias_gap": 0.0}, True),
        ({"bias_gap": 0.6}, True),
        ({"bias_gap": float("nan")}, True),
    ):
        assert bool(gate.refusal(numbers)) == refused
        assert not dataclasses.replace(gate, max_bias=None).refusal(numbers)
    assert gate.refusal({"bias_log_odds": -0.6}).startswith(
        "the bias bias_log_odds is -0.6 nats, and --max-bias allows"
    )


def run(*words):
    return console.run(train.main, [str(word) for word in words])


def rows_of(folder):
    return {step + 1: row for step, row in read_rows(folder / "log.jsonl").items()}


def test_a_run_logs_what_evaluate_measures_and_its_gate_ends_it(flags, write, tmp_path, capsys):
    text, out = write("words.txt", " ".join(f"word{n % 7}" for n in range(300))), tmp_path / "run"
    words = [*SHAPE, "--data", text, "--B", 2, "--T", 16, "--steps", 5, "--out", out, "--bias", flags["bias"]]
    words += ["--bias-text", flags["bias_text"], "--bias-every", 3]
    assert run(*words, "--max-bias", 0) == 6
    assert [step for step, row in rows_of(out).items() if "bias_gap" in row] == [3] and len(rows_of(out)) == 3
    assert "--max-bias allows 0; balance the data (prepare --counterfactual)" in capsys.readouterr().err
    assert run(*words, "--max-bias", 0) == 6 and len(rows_of(out)) == 3  # measured again
    assert run(*words, "--max-bias", 100) == 0
    assert [step for step, row in rows_of(out).items() if "bias_gap" in row] == [3, 5] and len(rows_of(out)) == 5
    assert " bias | preferred " in capsys.readouterr().out
    measured = ["--bias", flags["bias"], "--bias-text", flags["bias_text"], "--json", tmp_path / "out.json"]
    assert console.run(evaluate.main, [str(word) for word in (out, *measured)]) == 0
    found, last = json.loads((tmp_path / "out.json").read_text()), rows_of(out)[5]
    assert last["bias_log_odds"] == pytest.approx(found["bias"]["log_odds"], rel=1e-4)
    assert last["bias_gap"] == pytest.approx(found["bias_text"]["gap"], rel=1e-4)


@pytest.mark.slow
def test_a_run_with_it_resumes_to_the_bit_and_no_other_number_changes(flags, write, tmp_path, monkeypatch):
    """A signal comes while bias is measured, and not while the validation is, which is due at other steps."""
    text = write("words.txt", " ".join(f"word{n % 7}" for n in range(300)))
    words = [*SHAPE, "--data", text, "--val", 0.2, "--B", 2, "--T", 16, "--steps", 6, "--eval-every", 4, "--lr", 0.01]
    words += ["--sample-prompt", "word1"]
    bias = ["--bias", flags["bias"], "--bias-text", flags["bias_text"], "--bias-every", 3]
    assert run(*words, *bias, "--out", tmp_path / "whole") == 0 and run(*words, "--out", tmp_path / "without") == 0
    with monkeypatch.context() as patch:
        patch.setattr(BiasMonitor, "__call__", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {})
        assert run(*words, *bias, "--out", tmp_path / "parts") == 128 + signal.SIGTERM
    assert [*rows_of(tmp_path / "parts")] == [1, 2, 3]
    assert run(*words, *bias, "--out", tmp_path / "parts") == 0
    whole, parts, without = (rows_of(tmp_path / name) for name in ("whole", "parts", "without"))
    clock = ("step_ms", "tokens_per_s")
    for step, row in whole.items():
        row = {name: value for name, value in row.items() if name not in clock}
        assert row == {name: value for name, value in parts[step].items() if name not in clock}
        others = {name: value for name, value in row.items() if not name.startswith("bias_")}
        assert others == {name: value for name, value in without[step].items() if name not in clock}
    assert [step for step, row in whole.items() if "bias_gap" in row] == [3, 6]
    assert [step for step, row in whole.items() if "val_loss" in row] == [4, 6]
    bits = [saved_bits(tmp_path / name, 6) for name in ("whole", "parts", "without")]
    assert bits[0] == bits[1] == bits[2]
    samples = [(tmp_path / name / "samples.jsonl").read_bytes() for name in ("whole", "parts", "without")]
    assert samples[0] == samples[1] == samples[2] and samples[0].count(b"\n") == 2
