"""Flags that are wrong are one line each."""

import json
from pathlib import Path

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.runtime import device

ITEM = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


@pytest.mark.parametrize(
    "words, code, message",
    [
        (
            [],
            2,
            "nothing to measure: give --data, --generate, --pairs, --choices, --canaries, --tasks, "
            "--env, --bias or --bias-text",
        ),
        (["--choices", "nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["--data", "nowhere.txt"], 3, "nowhere.txt: no such file"),
        (["--data", "shakespeare", "--T", "65"], 2, "--T 65 is above the model's context of 64 tokens"),
        (["--data", "shakespeare", "--text-field", "a b"], 2, "--text-field 'a b': shakespeare is not an example file"),
        (
            ["--choices", "ITEMS", "--text-field", "a"],
            2,
            "--text-field a: they are names in a file of examples; name i",
        ),
        (["--choices", "ITEMS", "--limit", "0"], 2, "--limit 0 is out of range"),
        (["--choices", "ITEMS", "--batch-size", "0"], 2, "--batch-size 0 is out of range"),
        (["--tasks", "a", "--num-fewshot", "-1"], 2, "--num-fewshot -1 is out of range"),
        (["--choices", "ITEMS", "--num-fewshot", "1"], 2, "--num-fewshot changes nothing without --tasks; leave it"),
        (["--data", "x", "--limit", "1"], 2, "--limit changes nothing without --generate or --choices or --tasks"),
        (["--choices", "ITEMS", "--T", "1"], 2, "--T changes nothing without --data or --pairs; leave it out"),
        (["--tasks", "a,,b"], 2, "--tasks 'a,,b': a name is empty"),
        (["--tasks", ""], 2, "--tasks '': a name is empty"),
        (["--tasks", "a", "--include-path", "nowhere"], 2, "--include-path nowhere: no such folder"),
        (["--choices", "ITEMS", "--json", "nowhere/out.json"], 2, "--json nowhere/out.json: No such"),
        (["--choices", "ITEMS", "--json", "/"], 2, "--json /: Is a directory"),
        (["--choices", "ITEMS", "--device", "gpu"], 2, "--device gpu: no usable NVIDIA GPU"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_line(folder, tmp_path, words, code, message, capsys, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(ITEM) + "\n")
    assert run(folder / "hf", *(str(items) if word == "ITEMS" else word for word in words)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_what_a_reward_model_judges_beside_a_model_is_what_it_can():
    config = EvaluateConfig("run", "a.jsonl", reward="judge", choices=Path("b.jsonl"), limit=3, T=7, batch_size=2)
    assert config.of_judge == EvaluateConfig("judge", "a.jsonl", T=7, batch_size=2)
    assert (config.choose_T(7, 5), EvaluateConfig("run", "a").choose_T(7, 5)) == (7, 5)
    assert (EvaluateConfig("run", "a").choose_T(7), EvaluateConfig("run", "a").choose_T(7, 9)) == (7, 7)
