"""`jaxgpt play`: examples, the tree, and an episode; a game is in play/test_game.py."""

import dataclasses
import json
import sys

import numpy as np

from jaxgpt import console
from jaxgpt.commands import play
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.environments import ENVIRONMENTS, open_environment, tic_tac_toe
from jaxgpt.environments.tic_tac_toe import TicTacToe, transcript
from jaxgpt.inference.episodes import Transcript
from tests.support.players import RulePlayer, as_weights, count_games

PLAYER = RulePlayer.of((5, 1, 3, 7, 9, 2, 4, 6, 8), blind=(2,))


def run(*words):
    return console.run(play.main, [str(word) for word in words])


def test_examples_are_the_environments(tmp_path, capsys):
    path, words = tmp_path / "a.jsonl", ["--env", "tic-tac-toe", "--games", 7, "--seed", 5, "--record"]
    assert run(*words, path) == 0
    game = open_environment("tic-tac-toe")
    expected = [game.example(level, 5 * 2**32 + level) for level in range(7)]
    assert len(set(expected)) > 1
    lines = list(map(json.loads, path.read_text().splitlines()))
    assert lines == [{"prompt": prompt, "completion": completion} for prompt, completion in expected]
    assert capsys.readouterr().out == f"saved     {path}: 7 examples of tic-tac-toe\n"
    before = path.read_bytes()
    assert run(*words, path) == 2
    assert capsys.readouterr().err == f"error: --record {path}: exists already; choose another file\n"
    assert path.read_bytes() == before


def test_the_tree_is_counted_for_both_sides(tmp_path, monkeypatch, capsys):
    as_weights(monkeypatch, play, PLAYER)
    words = ["player", "--env", "tic-tac-toe", "--tree", "--device", "cpu", "--json", tmp_path / "tree.json"]
    assert run(*words) == 0
    found = json.loads((tmp_path / "tree.json").read_text())
    assert found.pop("model") == "player" and [*found] == ["first", "second"]
    for side, tree in enumerate(found.values()):
        assert [*tree] == ["won", "drawn", "lost", "illegal"]
        assert [*tree.values()] == count_games(PLAYER.answer, side).tolist()
    out = capsys.readouterr().out
    won, drawn, lost, illegal = found["first"].values()
    assert f"first     {won:,} won, {drawn:,} drawn, {lost:,} lost, {illegal:,} illegal\nsecond    " in out
    assert lost and illegal and "no illegal move" not in out
    assert run(*words) == 2
    assert "--json" in capsys.readouterr().err


def test_a_player_who_never_loses_is_named_so(monkeypatch, capsys):
    as_weights(monkeypatch, play, PLAYER)
    monkeypatch.setattr(tic_tac_toe, "walk", lambda choose, side: tic_tac_toe.Tree(won=1200, drawn=side))
    assert run("player", "--env", "tic-tac-toe", "--tree", "--device", "cpu") == 0
    second = "second    1,200 won, 1 drawn, 0 lost, 0 illegal\n"
    assert capsys.readouterr().out.endswith(second + "tree      no illegal move and no lost line\n")


def test_an_episode_is_shown_in_its_parts(monkeypatch, capsys):
    monkeypatch.setitem(ENVIRONMENTS, "noughts", ("jaxgpt.environments.tic_tac_toe", "TicTacToe"))
    as_weights(monkeypatch, play, PLAYER)
    assert run("player", "--env", "noughts", "--level", 3, "--seed", 2, "--device", "cpu") == 0
    game, parts = TicTacToe().start(3, 2 * 2**32 + 3), []
    assert game.prompt != transcript(())
    reply = game.prompt
    while reply is not None:
        parts += ["---- reply" if parts else "---- prompt", reply.removesuffix("\n")]
        answer = str(PLAYER.answer(game.moves))
        parts += ["---- answer", answer]
        reply = game.answer(answer, True)
    best = ", the best" * (game.reward == 1)
    expected = ["level     3 of tic-tac-toe against uniform", *parts, "----", f"reward    {game.reward:g}{best}"]
    assert capsys.readouterr().out == "\n".join(expected) + "\n"


def test_what_a_model_writes_is_escaped_on_a_terminal(monkeypatch, capsys):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    tokens = np.array(list(b"\n\x1b[2J"))
    played = Transcript(tokens, np.arange(5) > 0, np.zeros(5), num_prompt=1, reward=-1.5, cut=True)
    play.show_episode(TicTacToe(), 2, played, ByteTokenizer())
    _, *rest = capsys.readouterr().out.splitlines()
    ending = "reward    -1.5, cut: there was no more room"
    assert rest == ["---- prompt", "", "---- answer", "\\x1b[2J", "----", ending]


def test_a_short_context_is_refused(monkeypatch, capsys):
    short = dataclasses.replace(PLAYER, config=dataclasses.replace(PLAYER.config, block_size=18))
    as_weights(monkeypatch, play, short)
    assert run("player", "--env", "tic-tac-toe") == 2
    assert "context is 18 tokens, and a game has up to 19; use another model\n" in capsys.readouterr().err
