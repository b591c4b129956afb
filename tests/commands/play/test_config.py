"""Flags that change nothing, and what is missing, are one line each."""

import pytest

from jaxgpt import console
from jaxgpt.commands import play
from jaxgpt.commands.play.config import PlayConfig
from tests.support.players import RulePlayer, as_weights


@pytest.mark.parametrize(
    "words, message",
    [
        ("run", "not given: --env"),
        ("run --env chess", "--env chess: no such environment"),
        ("--env tic-tac-toe", "no MODEL; name a run folder or other weights, or write examples with --record"),
        ("run --env tic-tac-toe --record new", "run: --record needs no model"),
        ("--env tic-tac-toe --record new --games 0", "--games 0 is out of range"),
        ("--env tic-tac-toe --record new --tree", "--tree changes nothing with --record; leave it out"),
        ("--env tic-tac-toe --record new --temperature 0", "--temperature changes nothing with --record; leave it out"),
        ("--env tic-tac-toe --record nowhere/new", "--record nowhere/new: No such file or directory"),
        ("run --env tic-tac-toe --tree --side first", "--side changes nothing with --tree; leave it out"),
        ("run --env tic-tac-toe --tree --json nowhere/new", "--json nowhere/new: No such file or directory"),
        ("run --env tic-tac-toe --json new", "--json changes nothing in a game with you; leave it out"),
        ("run --env tic-tac-toe --level 1", "--level changes nothing in a game with you; leave it out"),
        ("run --env tic-tac-toe:opponent=minimax", "--env tic-tac-toe:opponent=minimax: its settings change nothing"),
        ("run --env tic-tac-toe --temperature -1", "--temperature -1.0 is out of range"),
        ("run --env gymnasium/FrozenLake-v1 --tree", "--tree: --env gymnasium/FrozenLake-v1 has too many episodes"),
        ("run --env gymnasium/FrozenLake-v1 --side first", "--side changes nothing in this environment; leave it out"),
        ("run --env gymnasium/FrozenLake-v1 --level -1", "--level -1 is out of range"),
        ("tests --env tic-tac-toe", "tests: no config.json there"),
    ],
)
def test_a_wrong_flag_is_one_line(words, message, capsys, monkeypatch):
    if words.startswith("run"):
        as_weights(monkeypatch, play, RulePlayer.of())
    assert console.run(play.main, words.split()) in (2, 4)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


def test_what_is_played_follows_from_the_flags():
    for words, what in [({"tree": True}, "tree"), ({}, "game"), ({"env": "gymnasium/Taxi-v3", "level": 5}, "episode")]:
        assert PlayConfig(**{"env": "tic-tac-toe", "model": "run"} | words).what == what
    assert PlayConfig("tic-tac-toe:opponent=minimax", record="new").what == "record"
