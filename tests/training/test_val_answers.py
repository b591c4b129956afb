"""Answers at a validation: which prompts, and their scores against those of evaluate --generate's parts."""

import dataclasses
import json
import os
import signal

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.data import datasets, examples
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.references import load_references
from jaxgpt.errors import UsageError
from jaxgpt.inference import complete
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.val_answers import AnswerScorer, load_val_prompts
from tests.support.echo import Echo
from tests.support.kill import numbers, saved_bits

RECORDS = [{"prompt": f"w{n} x:", "completion": f" {'w' * (n % 3 > 0)}{n}"} for n in range(12)]  # 8 of them right


def load_prompts(path, **flags):
    config = TrainConfig.of(data=path, tokenizer="bytes", val_generate=4, **flags)
    validation = datasets.load(config.data, fields=config.fields)[1]
    return validation, load_val_prompts(config, validation)


def test_the_prompts_are_those_of_the_validation_data(write):
    path, tokenizer = write("a.jsonl", RECORDS), ByteTokenizer()
    validation, drawn = load_prompts(path, val="0.5", T=8, block_size=32)
    assert validation.count == 6 and len(drawn) == 4
    rows = [row[row != 0].tolist() for row in validation.table["tokens"]]
    assert all(any(ids == row[: len(ids)] for row in rows) for ids in drawn.tokens)
    other = write("b.jsonl", RECORDS[:9])
    _, spaced = load_prompts(path, val=other)
    assert spaced.lines == (1, 4, 6, 9) and spaced.prompts == tuple(f"w{n} x:" for n in (0, 3, 5, 8))
    assert load_prompts(path, val=write("c.jsonl", RECORDS[:2]))[1].lines == (1, 2)
    assert (
        load_references(path, tokenizer=tokenizer).take(np.flatnonzero(examples.draw_validation(12, 0.5))).prompts[0]
        == drawn.prompts[0]
    )


def test_scores_are_by_hand_and_a_signal_ends_them(write):
    data = load_references(write("a.jsonl", RECORDS), tokenizer=ByteTokenizer())
    scorer = AnswerScorer(data, ("exact", "f1"), ByteTokenizer(), batch_size=5)
    assert scorer(Echo()) == {"exact": pytest.approx(8 / 12), "f1": pytest.approx(8 / 12)}
    asked = iter([False, True])
    assert AnswerScorer(data, ("exact",), ByteTokenizer(), 5, None, lambda: next(asked))(Echo()) == {}


def test_a_long_reference_makes_no_answer_longer_than_the_context(write, monkeypatch):
    data = load_references(write("a.jsonl", [{"prompt": "w", "completion": "w" * 10**4}]), tokenizer=ByteTokenizer())
    lengths = []
    monkeypatch.setattr(complete, "complete", lambda *given, **_: lengths.append(given[2]) or [[]])
    AnswerScorer(data, ("exact",), ByteTokenizer(), 1)(Echo())
    AnswerScorer(dataclasses.replace(data, references=(["w" * 9],)), ("exact",), ByteTokenizer(), 1)(Echo())
    assert lengths == [Echo().config.block_size + 1, 19]


def test_texts_have_no_answers(write):
    with pytest.raises(UsageError, match=r"--val-generate: 0\.1 has no prompts with completions; leave it out"):
        load_prompts(write("a.txt", json.dumps(RECORDS) * 9), val="0.1", T=8)


@pytest.mark.slow
def test_a_run_with_answers_resumes_to_the_bit_and_keeps_its_best(write, tmp_path, monkeypatch):
    """A signal comes while answers are written; without them, the run trains to the same bits."""
    path = write("a.jsonl", RECORDS)
    words = ["--n-layer", "1", "--n-head", "1", "--n-embd", "16", "--block-size", "32", "--tokenizer", "bytes"]
    words += ["--data", path, "--val", path, "--B", "4", "--T", "16", "--lr", "0.03", "--steps", "6", "--device", "cpu"]
    words += ["--eval-every", "2"]
    answers = ["--val-generate", "5", "--val-metrics", "f1,exact", "--best-by", "f1"]

    def run(name, *more):
        return console.run(train.main, [*words, *more, "--out", str(tmp_path / name)])

    assert run("whole", *answers) == 0 and run("without") == 0
    with monkeypatch.context() as patch:
        patch.setattr(AnswerScorer, "__call__", lambda *_: os.kill(os.getpid(), signal.SIGTERM) or {})
        assert run("parts", *answers) == 128 + signal.SIGTERM
    assert run("parts", *answers) == 0
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert saved_bits(tmp_path / "parts", 6) == saved_bits(tmp_path / "whole", 6) == saved_bits(tmp_path / "without", 6)
    whole, parts, without = (
        Checkpoints(tmp_path / name / "checkpoints").progress(6).best for name in ("whole", "parts", "without")
    )
    scores = {row["step"] + 1: row["val_f1"] for row in numbers(tmp_path / "whole") if "val_f1" in row}
    assert [*scores] == [2, 4, 6] and all("val_exact" in row for row in numbers(tmp_path / "whole")[1::2])
    assert whole == parts and (whole.by, whole.score) == ("f1", max(scores.values()))
    losses = {row["step"] + 1: row["val_loss"] for row in numbers(tmp_path / "whole") if "val_f1" in row}
    assert whole.step == max(scores, key=lambda step: (scores[step], -losses[step]))
    assert whole.of.endswith("windows of 16, 5 answers") and (without.by, without.score) == ("loss", None)
