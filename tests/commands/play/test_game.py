"""Games with a model that moves by a rule: each line of the person, and what is printed."""

import io
import sys

import pytest

from jaxgpt import console
from jaxgpt.commands import play
from tests.support.players import RulePlayer, as_weights

BOARD = """\
 {} | {} | {}
---+---+---
 {} | {} | {}
---+---+---
 {} | {} | {}
"""


@pytest.fixture
def game(monkeypatch, capsys):
    def game(typed, *words, **rule):
        as_weights(monkeypatch, play, RulePlayer.of(**rule))
        monkeypatch.setattr(sys, "stdin", typed if typed is None else io.TextIOWrapper(io.BytesIO(typed)))
        assert console.run(play.main, ["player", "--env", "tic-tac-toe", "--device", "cpu", *words]) == 0
        return capsys.readouterr().out

    return game


def test_a_person_wins_after_moves_that_are_none(game):
    out = game(b"5\n5\n\xff\x1b[2J\n\n12\n3\n7\n")  # the model takes 1, and 2
    assert out.startswith(BOARD.format(*"123456789") + "your square: 5\nthe model's move: 1\n")
    assert out.count("type the number of a free square: 2, 3, 4, 6, 7, 8, 9\n") == 4 == out.count("free square")
    assert "\x1b" not in out and "your square: \ufffd\\x1b[2J\n" in out
    assert out.endswith("your square: 7\n" + BOARD.format(*"OOX4X6X89") + "you win\n")


def test_the_model_moves_first_and_wins_or_draws(game):
    out = game(b"4\n5\n", "--side", "second")  # 1, 2, 3
    assert out.startswith("the model's move: 1\n" + BOARD.format(*"X23456789") + "your square: 4\n")
    assert out.endswith("the model's move: 3\n" + BOARD.format(*"XXXOO6789") + "the model wins\n")
    out = game(b"5\n2\n7\n6\n", "--side", "second", order=(1, 9, 8, 3, 4, 2, 5, 6, 7))
    assert out.endswith("the model's move: 4\n" + BOARD.format(*"XOXXOOOXX") + "a draw\n")


def test_a_move_that_is_none_ends_the_game(game):
    out = game(b"5\n", order=(5, 1, 2, 3, 4, 6, 7, 8, 9), blind=(5,))
    assert out.endswith("the model's move: 5\nthat is no legal move: you win\n")


@pytest.mark.parametrize("typed", [b"5\n", None])
def test_the_game_ends_with_stdin(typed, game):
    assert game(typed).endswith("your square: \nthe game ends here, since stdin does\n")
