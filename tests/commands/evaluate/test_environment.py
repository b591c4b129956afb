"""--env: rewards are those of episodes that are played here one by one."""

import types

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from jaxgpt.commands.evaluate import environment
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.environments.tic_tac_toe import TicTacToe
from jaxgpt.json_file import read_json
from tests.support.players import RulePlayer, as_weights

PLAYER = RulePlayer.of((5, 1, 3, 7, 9, 2, 4, 6, 8), blind=(2,))
GAME = TicTacToe()
LEVELS = range(GAME.num_levels, GAME.num_levels + 50)


def play(level, seed):
    """The reward of a level, and how much was written."""
    game, answers = GAME.start(level, seed << 32 | level), 0
    while game.answer(str(PLAYER.answer(game.moves)), True) is not None:
        answers += 1
    return game.reward, 2 * (answers + 1)


def test_each_level_has_its_reward(monkeypatch, tmp_path, capsys):
    as_weights(monkeypatch, evaluate, PLAYER)
    words = ["player", "--env", "tic-tac-toe", "--levels", "50", "--device", "cpu", "--batch-size", "16"]
    assert console.run(evaluate.main, [*words, "--seed", "3", "--json", str(tmp_path / "a.json")]) == 0
    found = read_json(tmp_path / "a.json")["environment"]
    rewards, tokens = np.array([play(level, 3) for level in LEVELS]).T
    assert [(each["level"], each["reward"]) for each in found["each"]] == list(zip(LEVELS, rewards, strict=True))
    assert len(set(rewards)) >= 3  # this player wins, loses and overlooks a move
    for name, values in (("", rewards), ("solved", rewards >= 1)):
        mean, error = found[name or "mean"], found[f"{name}_stderr".lstrip("_")]
        assert (mean, error) == (pytest.approx(values.mean()), pytest.approx(values.std(ddof=1) / 50**0.5))
    assert (found["tokens"], found["cut"], found["temperature"]) == (pytest.approx(tokens.mean()), 0, 0)
    out = capsys.readouterr().out
    assert "levels 100,000 to 100,049, the likeliest tokens, answers of at most 2 tokens\n" in out
    assert f"reward    {found['mean']:.4f} ± {found['stderr']:.4f}, the mean of 50; from -1.5 to 1\n" in out


def test_answers_without_an_end_are_cut_and_the_temperature_is_named(capsys):
    config = EvaluateConfig("x", env="tic-tac-toe", levels=16, temperature=0.5, answer_tokens=1, batch_size=16)
    source = types.SimpleNamespace(tokenizer=ByteTokenizer())
    found = environment.prepare(config, source)(lambda: PLAYER)["environment"]
    assert (found["cut"], found["tokens"], found["mean"], found["solved"]) == (16, 1, -1.5, 0)
    assert "temperature 0.5, answers of at most 1 token\n" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["--env", "chess"], "--env chess: no such environment; use tic-tac-toe, "),
        (["--env", "tic-tac-toe", "--levels", "0"], "--levels 0 is out of range"),
        (["--env", "tic-tac-toe", "--temperature", "-1"], "--temperature -1.0 is out of range"),
        (["--data", "shakespeare", "--levels", "3"], "--levels changes nothing without --env; leave it out"),
    ],
)
def test_wrong_flags_are_one_line(monkeypatch, words, message, capsys):
    as_weights(monkeypatch, evaluate, PLAYER)
    assert console.run(evaluate.main, ["player", *words]) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {message}") and err.count("\n") == 1
