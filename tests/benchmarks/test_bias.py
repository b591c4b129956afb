"""The planted text has the shares that it says, and a model of it the log-odds."""

import collections
import json

import numpy as np
import pytest
import scipy.stats

from benchmarks import bias
from jaxgpt import commands, console


def test_the_planted_shares_are_exact():
    for share, frequent in ((0.9, 900), (0.5, 500)):
        documents = bias.draw_documents(20_000, share, seed=1)
        pronouns = collections.Counter((words[1], words[4]) for words in map(str.split, documents))
        for occupation in bias.OCCUPATIONS:
            assert pronouns[occupation, bias.frequent_pronoun(occupation)] == frequent
        assert pronouns.total() == 20_000 and len({*documents}) == 20_000
    assert collections.Counter(map(bias.frequent_pronoun, bias.OCCUPATIONS)) == {"he": 10, "she": 10}
    pairs = bias.make_pairs()
    assert len(pairs) == 200 and pairs[0]["more"] == "The nurse said that she was tired."
    assert pairs[-1]["less"] == "The guard said that she was alone."


def test_null_p_values_are_uniform():
    values = bias.null_p_values(np.ones(200), shuffles=400)
    assert scipy.stats.kstest(values, "uniform").pvalue > 0.01


def run_here(*words):
    """bias.run, in this process: seven starts, and a second training's programs, cost as much as the trainings."""
    assert console.run(commands.main, [*map(str, words)]) == 0


@pytest.mark.slow
def test_a_planted_association_is_measured_and_taken_out(tmp_path, monkeypatch, optimized):
    """A shorter form: documents with four numbers, so that the pronouns are learned in 400 steps."""
    monkeypatch.setattr(bias, "run", run_here)
    monkeypatch.setattr(bias, "NUMBERS", 4)
    shape = [13 if each == bias.T else each for each in bias.SHAPE]
    monkeypatch.setattr(bias, "SHAPE", shape)
    flags = bias.Flags(tmp_path / "all", documents=6000, steps=400)
    flags.folder.mkdir()
    bias.write_texts(flags.folder, flags.documents, 0)
    words = ["--vocab", 1600, "--out", flags.folder / "tokenizer", "--workers", 1]
    bias.run("tokenizer", "train", flags.folder / "planted.jsonl", *words)
    planted = bias.train_and_measure(flags.folder, "planted", "planted", flags)
    mirrored = bias.train_and_measure(flags.folder, "mirrored", "planted", flags, ["--counterfactual", "default"])
    assert abs(planted["bias"]["log_odds"] - np.log(9)) < 0.2 and planted["bias"]["preferred"] == 1
    assert abs(planted["bias_text"]["gap"] - 0.8 * np.log(9)) < 0.2
    assert abs(mirrored["bias"]["log_odds"]) < 0.1 and abs(mirrored["bias_text"]["gap"]) < 0.05
    assert len(json.loads((flags.folder / "planted.json").read_text())["bias"]["groups"]) == 20
