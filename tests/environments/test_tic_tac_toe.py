"""Tic-tac-toe, against rules of another kind: three squares are a line if their numbers in a magic square sum to 15."""

import functools
import random

import pytest

from jaxgpt.environments.tic_tac_toe import (
    DRAWN,
    ILLEGAL,
    LOST,
    OPPONENTS,
    WON,
    TicTacToe,
    Tree,
    best_moves,
    draw_board,
    is_won,
    legal_moves,
    transcript,
    value,
    walk,
)
from jaxgpt.errors import UsageError
from tests.support.players import MAGIC, count_games, has_line

EMPTY = frozenset()


@functools.cache
def judge(mover, waiting):
    """What a position is worth to the one who moves, and how many games it can become."""
    if has_line(waiting):
        return -1, 1
    free = set(MAGIC) - mover - waiting
    if not free:
        return 0, 1
    after = [judge(waiting, mover | {square}) for square in free]
    return max(-worth for worth, _ in after), sum(games for _, games in after)


def squares_of(text):
    return tuple(map(int, text.split()))


def worth(squares, side):
    """The reward of a whole game to a side."""
    for last in (0, 1):
        if has_line(squares[last::2]):
            return WON if last == side else LOST
    assert len(squares) == 9
    return DRAWN


def test_there_are_as_many_games_and_positions_as_everyone_counts():
    assert judge(EMPTY, EMPTY) == (0, 255_168)
    assert judge.cache_info().currsize == 5_478


def test_moves_wins_and_values_are_those_of_the_magic_square():
    """In every position, come to by some order of its moves."""
    positions, waiting = {}, [()]
    while waiting:
        moves = waiting.pop()
        key = frozenset(moves[::2]), frozenset(moves[1::2])
        if key not in positions:
            positions[key] = moves
            waiting += [(*moves, square) for square in legal_moves(moves)]
    assert len(positions) == 5_478
    for sides, moves in positions.items():
        mover, other = sides if len(moves) % 2 == 0 else sides[::-1]
        assert is_won(moves) == has_line(other)
        assert legal_moves(moves) == ([] if has_line(other) else sorted(set(MAGIC) - mover - other))
        assert value(moves) == judge(mover, other)[0]
        best = [square for square in legal_moves(moves) if -judge(other, mover | {square})[0] == value(moves)]
        assert best_moves(moves) == best


PLAYERS = {
    "perfect": lambda moves: best_moves(moves)[0],
    "lowest": lambda moves: legal_moves(moves)[0],
    "stubborn": lambda moves: 1 + 4 * len(moves) % 9,
}


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("player", PLAYERS)
def test_a_walk_comes_to_every_game_of_a_player(player, side):
    choose = PLAYERS[player]
    walked = walk(lambda texts: [(str(choose(squares_of(text))), True) for text in texts], side)
    assert walked == Tree(*count_games(choose, side))
    assert (walked.lost == 0, walked.illegal == 0) == (player == "perfect", player != "stubborn")


def test_an_answer_that_was_not_ended_is_illegal_in_a_walk():
    assert walk(lambda texts: [("5", False)] * len(texts), 1) == Tree(illegal=9)


def play(opponent, level, chooser):
    """The squares of a whole game of random legal moves, the episode, and whose turn it said it was."""
    game, draw, learned = TicTacToe(opponent=opponent).start(level, 0), random.Random(chooser), []
    text = reply = game.prompt
    while reply is not None:
        learned.append(game.learned)
        move = draw.choice(sorted(set(MAGIC) - set(squares_of(text))))
        reply = game.answer(str(move), True)
        text += f"{move}\n" + (reply or "")
    assert text.startswith("\n") and transcript(game.moves).startswith(text)  # the opponent's last move is not read
    return game.moves, game, learned


@pytest.mark.parametrize("side", [0, 1])
@pytest.mark.parametrize("opponent", OPPONENTS)
def test_a_game_is_worth_what_its_end_is(opponent, side):
    rewards = set()
    for level in range(side, 120, 2):
        squares, game, learned = play(opponent, level, chooser=level)
        assert game.reward == worth(squares, side)
        assert play(opponent, level, chooser=level)[0] == squares
        if opponent == "itself":
            assert learned == [turn % 2 == side for turn in range(len(squares))]
        else:
            assert all(learned) and len(learned) == len(squares[side::2])
        if opponent == "minimax":
            assert all(squares[turn] in best_moves(squares[:turn]) for turn in range(1 - side, len(squares), 2))
        rewards.add(game.reward)
    assert LOST in rewards and (WON in rewards) == (opponent != "minimax")


@pytest.mark.parametrize("opponent", ["uniform", "minimax", "mixed"])
def test_the_level_alone_draws_the_moves_of_the_opponent(opponent):
    prompts = [
        {TicTacToe(opponent=opponent).start(level, seed).prompt for seed in range(3)} for level in range(1, 200, 2)
    ]
    assert {len(of_level) for of_level in prompts} == {1}
    assert set.union(*prompts) == {f"\n{square}\n" for square in MAGIC}  # any first move is perfect play


@pytest.mark.parametrize(
    "text, ended", [("", True), ("0", True), ("55", True), ("x", True), ("\u0665", True), ("5", False)]
)
def test_an_illegal_answer_ends_the_game(text, ended):
    game = TicTacToe().start(0, 0)
    assert game.answer(text, ended) is None and game.reward == ILLEGAL < LOST < DRAWN < WON


def test_a_taken_square_is_illegal_to_the_one_who_names_it():
    for level, reward in [(0, WON), (1, ILLEGAL)]:  # the second to move is the policy on odd levels
        game = TicTacToe(opponent="itself").start(level, 0)
        assert game.answer("5", True) == "" and game.reward == 0
        assert game.answer("5", True) is None and game.reward == reward


def test_an_example_is_a_whole_game():
    examples = {TicTacToe().example(0, seed) for seed in range(50)}
    assert len(examples) == 50
    for prompt, text in examples:
        assert prompt == "\n" and legal_moves(squares_of(text)) == []
        worth(squares_of(text), 0)


def test_a_board_shows_marks_and_free_squares():
    assert draw_board((5, 1, 9)) == " O | 2 | 3\n---+---+---\n 4 | X | 6\n---+---+---\n 7 | 8 | X"


def test_what_it_is_has_a_fingerprint():
    prints = {opponent: TicTacToe(opponent=opponent).fingerprint for opponent in OPPONENTS}
    assert len(set(prints.values())) == len(OPPONENTS) and prints["uniform"] == TicTacToe().fingerprint


def test_another_game_or_opponent_is_refused():
    with pytest.raises(UsageError, match=r"^--env tic-tac-toe/4x4: there is one such game"):
        TicTacToe("4x4")
    with pytest.raises(UsageError, match=r"opponent me is out of range: it must be one of uniform, minimax, "):
        TicTacToe(opponent="me")
