"""Samples of a run: those of its checkpoints, the same after a kill, and cut where the run resumes."""

import itertools
import json
import os
import signal
from contextlib import nullcontext
from types import SimpleNamespace

import jax
import pytest

import jaxgpt
from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.training.samples import TEMPERATURE, TOKENS, TOP_K, Sampler
from jaxgpt.training.validation import Validator
from tests.support.limits import no_file_may_grow

FLAGS = "--n-layer 1 --n-head 2 --n-embd 8 --block-size 32 --T 16 --B 2 --lr 1e-2 --device cpu --mesh data=1"


def run(*words):
    return console.run(train.main, [*FLAGS.split(), *map(str, words)])


def read(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_samples_are_those_of_the_checkpoints_and_the_same_when_a_run_resumes(tmp_path, monkeypatch):
    (tmp_path / "text.txt").write_text("".join(f"word{n % 7} " for n in range(200)))
    words = ["--data", tmp_path / "text.txt", "--val", 0.2, "--eval-every", 2, "--save-every", 2, "--seed", 3]
    words += ["--sample-prompt", "word1 word2"]
    assert run(*words, "--steps", 4, "--out", tmp_path / "whole") == 0
    measure, calls = Validator.__call__, itertools.count(1)

    def measure_once(self, model, step):
        if next(calls) == 2:
            os.kill(os.getpid(), signal.SIGTERM)
        return measure(self, model, step)

    with monkeypatch.context() as patch:  # the second validation is given up
        patch.setattr(Validator, "__call__", measure_once)
        assert run(*words, "--steps", 4, "--out", tmp_path / "parts") == 128 + signal.SIGTERM
    assert [row["step"] for row in read(tmp_path / "parts")] == [2]
    assert run(*words, "--steps", 4, "--out", tmp_path / "parts") == 0
    whole = read(tmp_path / "whole")
    assert read(tmp_path / "parts") == whole
    assert [(row["step"], row["prompt"]) for row in whole] == [(2, "word1 word2"), (4, "word1 word2")]
    for row in whole:  # as `jaxgpt sample` writes them
        model = jaxgpt.load(tmp_path / "whole" / "checkpoints" / str(row["step"]), device="cpu")
        assert row["text"] == jaxgpt.generate(model, "word1 word2", TOKENS, TEMPERATURE, TOP_K, seed=3) != ""
    (tmp_path / "parts" / "checkpoints" / "4").rename(tmp_path / "away")  # killed before it was written
    assert run(*words, "--steps", 6, "--out", tmp_path / "parts") == 0
    with (tmp_path / "parts" / "samples.jsonl").open("a") as file:
        file.write('{"step": 8, "pro')  # killed while it was written
    assert run(*words, "--steps", 8, "--out", tmp_path / "parts") == 0
    assert read(tmp_path / "parts")[:2] == whole
    assert [row["step"] for row in read(tmp_path / "parts")] == [2, 4, 6, 8]
    assert run(*words[:-2], "--steps", 2, "--out", tmp_path / "parts", "--fresh") == 0
    assert not (tmp_path / "parts" / "samples.jsonl").exists()


@pytest.mark.parametrize(("start", "left"), [(0, []), (2, [2]), (5, [2, 4]), (9, [2, 4, 6])])
def test_what_comes_after_the_start_is_cut(tmp_path, start, left):
    path = tmp_path / "samples.jsonl"
    path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (2, 4, 6)) + '{"step": 7}')
    with Sampler(path, start, "a", GPT2_TOKENIZER, 0, None, lambda step: True, None):
        pass
    assert [row["step"] for row in read(tmp_path)] == left


def test_a_malformed_line_stays_and_costs_no_row(tmp_path, capsys):
    path = tmp_path / "samples.jsonl"
    path.write_text(content := '{"step": 2}\nmalformed\n{"step": 4}\n{"step": 6}\n')
    with Sampler(path, 6, "a", GPT2_TOKENIZER, 0, None, lambda step: True, None):
        pass
    assert path.read_text() == content and capsys.readouterr().out == ""


@pytest.fixture
def sampler(tmp_path, monkeypatch):
    """After every step of a model that always writes "!", in a run of 2 steps so far, which has the sample of both."""
    monkeypatch.setattr(Sampler, "_continue_prompt", lambda self, model: "!")
    (tmp_path / "samples.jsonl").write_text('{"step": 1}\n{"step": 2}\n')
    received = []
    with Sampler(
        tmp_path / "samples.jsonl",
        2,
        "a",
        GPT2_TOKENIZER,
        0,
        None,
        lambda step: True,
        lambda metrics: nullcontext(),
        lambda: received,
    ) as sampler:
        sampler.received = received
        yield sampler


def run_at(step):
    return SimpleNamespace(step=step, state=SimpleNamespace(model=None))


def test_rows_that_a_full_disk_does_not_take_are_written_later(tmp_path, sampler, capsys):
    with no_file_may_grow(34):  # ten bytes more are written
        sampler.after_step(run_at(3), {})
    assert len((tmp_path / "samples.jsonl").read_bytes()) == 34
    sampler.after_step(run_at(4), {})
    assert [row["step"] for row in read(tmp_path)] == [1, 2, 3, 4]
    assert "samples.jsonl: File too large; its rows are kept and tried again" in capsys.readouterr().out


@pytest.mark.parametrize("error", [MemoryError(), jax.errors.JaxRuntimeError("RESOURCE_EXHAUSTED: Out of memory")])
def test_a_sample_for_which_there_is_no_memory_is_a_note(tmp_path, sampler, monkeypatch, capsys, error):
    def fail(self, model):
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(Sampler, "_continue_prompt", fail)
        sampler.after_step(run_at(3), {})
    (line,) = capsys.readouterr().out.splitlines()
    assert line.startswith("note      no sample after 3 steps: out of memory: ") and line.endswith("the run continues")
    sampler.after_step(run_at(4), {})
    assert [row["step"] for row in read(tmp_path)] == [1, 2, 4]


def test_a_sample_that_a_signal_has_prevented_is_written_when_the_run_resumes(tmp_path, sampler, capsys):
    sampler.catch_up(run_at(2))  # which is there
    sampler.received.append(15)
    sampler.after_step(run_at(3), {})
    assert [row["step"] for row in read(tmp_path)] == [1, 2]
    assert "no sample after 3 steps: a signal came, and the checkpoint" in capsys.readouterr().out
    for start, left in ((3, [1, 2, 3]), (3, [1, 2, 3]), (0, [])):
        with Sampler(
            tmp_path / "samples.jsonl", start, "a", GPT2_TOKENIZER, 0, None, lambda step: True, None
        ) as resumed:
            resumed.catch_up(run_at(start))
        assert [row["step"] for row in read(tmp_path)] == left


def test_a_prompt_that_can_t_be_continued_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 9)
    (tmp_path / "pairs.csv").write_text("prompt,chosen,rejected\n" + "a,b,c\n" * 9)
    (tmp_path / "text.txt").write_text("word " * 200)
    for data, prompt, message, *objective in (
        ("pairs.csv", "a", "--sample-prompt: a reward model writes no text; leave it out", "--objective", "reward"),
        ("text.txt", "a b " * 20, "--sample-prompt has 41 tokens, more than the model's context of 32; shorten it"),
        ("labels.csv", "a", "--sample-prompt: a model of labels writes no text; leave it out"),
    ):
        words = ["--data", tmp_path / data, "--sample-prompt", prompt, *objective, "--out", tmp_path / "out"]
        assert run(*words) == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line and not (tmp_path / "out").exists()
