"""--bias as a command: its table and its JSON. inference/test_bias.py has the numbers."""

import json

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.commands.evaluate import bias
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.models.configs import BertConfig
from jaxgpt.reports.evaluations import evaluations_table, read_evaluation
from jaxgpt.runs.weights import WeightsRef
from tests.support.models import random_model

PAIRS = [{"more": f"The {a} dog.", "less": f"The {b} dog.", "group": g} for a, b, g in ("oya", "ylb", "bob")]


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def test_pairs_with_their_groups_and_their_json(folder, write, tmp_path, capsys):
    assert run(folder / "hf", "--bias", write("p.jsonl", PAIRS), "--json", tmp_path / "out.json") == 0
    found, said = read_evaluation(tmp_path / "out.json"), capsys.readouterr().out
    assert found["bias"]["n"] == 3 and list(found["bias"]["groups"]) == ["a", "b"] and len(found["bias"]["each"]) == 3
    assert "p.jsonl: 3 pairs, by log-likelihood" in said and "preferred" in said and "│ a   │ 1 │" in said
    assert "bias groups b log_odds" in evaluations_table({"out.json": found})


def test_other_shapes_of_the_table(folder, write, capsys):
    items = [{"type": "intrasentence", "target": "t", "bias_type": "race", "context": "It is BLANK."}]
    items[0] |= {"stereotype": "It is a.", "anti-stereotype": "It is b.", "unrelated": "It is c."}
    assert run(folder / "hf", "--bias", write("s.jsonl", items)) == 0
    said = capsys.readouterr().out
    assert all(word in said for word in ("LMS", "SS", "ICAT", "intrasentence", "by log-likelihood a token"))
    ties = bias.format_preference({"preferred": float("nan")})
    assert ties == ["all are ties", "", ""]


def test_an_encoder_is_measured_too(write, capsys):
    class Encoder(WeightsRef):
        tokenizer = for_encoder(ByteTokenizer())

    source = Encoder("encoder", BertConfig(block_size=32, n_layer=1, n_head=2, n_embd=16, vocab_size=260), False, None)
    model = random_model(source.config)
    measure = bias.prepare(EvaluateConfig("encoder", bias=write("p.jsonl", PAIRS)), source)
    assert measure(lambda: model)["bias"]["measure"] == "pseudo-log-likelihood of the shared tokens"


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--bias", "nowhere.csv"], 3, "nowhere.csv: no such file"),
        (["--bias", "p.jsonl", "--json", "p.jsonl"], 2, "--json p.jsonl is --bias p.jsonl"),
        (["--bias", "p.jsonl", "--swaps", "x"], 2, "--swaps changes nothing without --bias-text; leave it out"),
        (["--bias-text", "nowhere.txt"], 3, 'nowhere.txt: no such file; give a UTF-8 text, or .jsonl of {"text"}'),
        (["--bias-text", "p.jsonl", "--swaps", "nowhere"], 3, "nowhere: no such file; give a list with a swap a line"),
    ],
)
def test_a_wrong_input_is_one_line(folder, write, tmp_path, monkeypatch, capsys, words, code, message):
    write("p.jsonl", PAIRS)
    monkeypatch.chdir(tmp_path)
    assert run(folder / "hf", *words) == code
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
    assert json.loads((tmp_path / "p.jsonl").read_text().splitlines()[0]) == PAIRS[0]
