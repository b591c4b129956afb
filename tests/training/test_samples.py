"""Samples of a run: those of its checkpoints, the same after a kill, and cut where the run resumes."""

import json

import pytest

import jaxgpt
from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.training.samples import TEMPERATURE, TOKENS, TOP_K, Sampler

FLAGS = "--n-layer 1 --n-head 2 --n-embd 8 --block-size 32 --T 16 --B 2 --lr 1e-2 --device cpu --mesh data=1"


def run(*words):
    return console.run(train.main, [*FLAGS.split(), *map(str, words)])


def read(folder):
    return [json.loads(line) for line in (folder / "samples.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_samples_are_those_of_the_checkpoints_and_the_same_when_a_run_resumes(tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"word{n % 7} " for n in range(200)))
    words = ["--data", tmp_path / "text.txt", "--val", 0.2, "--eval-every", 2, "--save-every", 2, "--seed", 3]
    words += ["--sample-prompt", "word1 word2"]
    assert run(*words, "--steps", 4, "--out", tmp_path / "whole") == 0
    assert run(*words, "--steps", 4, "--out", tmp_path / "parts") == 0
    whole = read(tmp_path / "whole")
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
    Sampler(path, start, "a", 0, None, lambda step: True, None)
    assert [row["step"] for row in read(tmp_path)] == left


def test_a_prompt_that_can_t_be_continued_is_refused_in_one_line(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("text,label\n" + "good,yes\nbad,no\n" * 9)
    (tmp_path / "text.txt").write_text("word " * 200)
    for data, prompt, message in (
        ("text.txt", "a b " * 20, "--sample-prompt has 41 tokens, more than the model's context of 32; shorten it"),
        ("labels.csv", "a", "--sample-prompt: a model of labels writes no text; leave it out"),
    ):
        assert run("--data", tmp_path / data, "--sample-prompt", prompt, "--out", tmp_path / "out") == 2
        (line,) = capsys.readouterr().err.splitlines()
        assert message in line and not (tmp_path / "out").exists()
