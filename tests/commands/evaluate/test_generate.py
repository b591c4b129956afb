"""--generate: answers of a model whose rule is known, and their scores by hand."""

import json

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.json_file import read_json
from tests.inference.test_answer_metrics import NEEDS_METRICS
from tests.support.echo import Echo
from tests.support.players import as_weights

RECORDS = [
    {"id": "q1", "prompt": "Paris is big. City:", "references": ["the city", "The Paris!"]},
    {"prompt": "Rome is old. City:", "completion": " Roma"},
    {"prompt": "Oslo is cold. Where is it cold, and how:", "references": ["Oslo north"], "id": 4},
    {"prompt": "Rome is old. City:", "completion": " Rome"},
    {"prompt": "no colon", "completion": " ..."},
]
ANSWERS = ["Paris", "Rome", "Oslo", "Rome", "......."]
EXACT, F1 = [1, 0, 0, 1, 1], [1, 0, 2 / 3, 1, 1]  # of dots alone, no word is left


def run(monkeypatch, *words):
    as_weights(monkeypatch, evaluate, Echo())
    return console.run(evaluate.main, ["echo", *map(str, words), "--device", "cpu"])


@pytest.mark.parametrize("batch_size, temperature", [(2, 0), (8, 0.01)])
def test_answers_and_scores_are_those_by_hand(monkeypatch, write, tmp_path, capsys, batch_size, temperature):
    path, out, answers = write("a.jsonl", RECORDS), tmp_path / "out.json", tmp_path / "answers.jsonl"
    words = ["--generate", path, "--max-new-tokens", 7, "--batch-size", batch_size, "--temperature", temperature]
    assert run(monkeypatch, *words, "--json", out, "--answers", answers) == 0
    lines = [json.loads(line) for line in answers.read_text().splitlines()]
    assert [line["answer"] for line in lines] == ANSWERS
    assert ([line["exact"] for line in lines], [line["f1"] for line in lines]) == (EXACT, pytest.approx(F1))
    assert lines[0].items() >= (RECORDS[0] | {"answer": "Paris"}).items() and "line" not in lines[0]
    assert (lines[1]["line"], lines[1]["references"], lines[2]["id"]) == (2, ["Roma"], 4)
    found = read_json(out)["generate"]
    assert (found["n"], found["ended"], found["cut"], found["temperature"]) == (5, 4, 0, temperature)
    assert found["exact"]["score"] == pytest.approx(3 / 5) and found["f1"]["score"] == pytest.approx(sum(F1) / 5)
    assert found["exact"]["low"] <= 3 / 5 <= found["exact"]["high"]
    assert found["tokens"] == pytest.approx((6 + 5 + 5 + 5 + 7) / 5)
    printed = capsys.readouterr().out
    assert f"generate  {path}: 5 prompts, " in printed and "5.6 tokens each, 4 of 5 ended by themselves" in printed
    assert f"exact     0.6000 ({found['exact']['low']:.4f} to {found['exact']['high']:.4f})\n" in printed


def test_the_metrics_of_libraries_have_their_signatures(monkeypatch, write, capsys):
    for library in ("rouge_score", "sacrebleu"):
        pytest.importorskip(library, reason=NEEDS_METRICS)
    path = write("a.jsonl", [{"prompt": "Paris" + " x" * 40 + ":", "completion": "Paris"}] * 3)
    assert run(monkeypatch, "--generate", path, "--metrics", "rouge", "bleu", "chrf", "--limit", 2) == 0
    printed = capsys.readouterr().out
    assert (
        "2 prompts, the likeliest tokens, at most 128 tokens; 2 too long for the model's context, cut from the left"
        in printed
    )
    for start in ("rouge_l   0.", "bleu      ", "chrf      "):
        assert start in printed
    assert "|tok:13a|smooth:exp|version:2." in printed and "|nc:6|nw:0|" in printed


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--generate", "nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["--generate", "FILE", "--metrics", "blue"], 2, "blue"),
        (["--generate", "FILE", "--top-p", "0"], 2, "--top-p 0.0 is out of range"),
        (["--generate", "FILE", "--max-new-tokens", "0"], 2, "--max-new-tokens 0 is out of range"),
        (["--generate", "FILE", "--answers", "FILE"], 2, "which must stay"),
        (["--generate", "FILE", "--answers", "new", "--json", "new"], 2, "--answers new is --json, too"),
        (["--data", "shakespeare", "--metrics", "exact"], 2, "--metrics changes nothing without --generate"),
        (["--generate", "FILE", "--label-field", "x"], 2, "--label-field x: a prompt with references has prompt"),
    ],
)
def test_a_wrong_flag_is_one_line(monkeypatch, write, words, code, message, capsys):
    path = write("a.jsonl", RECORDS)
    assert run(monkeypatch, *(path if word == "FILE" else word for word in words)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1 and message in err
