"""Tic-tac-toe with whoever types."""

import sys
from collections.abc import Callable
from typing import TYPE_CHECKING

from jaxgpt import console
from jaxgpt.environments.base import Environment
from jaxgpt.environments.tic_tac_toe import (
    DRAWN,
    ILLEGAL,
    LOST,
    WON,
    Game,
    Moves,
    TicTacToe,
    draw_board,
    legal_moves,
    parse_move,
)

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.episodes import Transcript

ENDINGS = {WON: "the model wins", DRAWN: "a draw", LOST: "you win", ILLEGAL: "that is no legal move: you win"}


class PersonGame(Game):
    """A game whose opponent types."""

    def answer(self, text: str, ended: bool) -> str | None:
        print(f"the model's move: {console.escape(text)}")
        return super().answer(text, ended)


class WithPerson(TicTacToe):
    """As TicTacToe; `game` is the one that was started last."""

    game: PersonGame

    def start(self, level: int, seed: int) -> PersonGame:
        self.game = PersonGame(level % 2, ask)
        return self.game


def play_game(is_second: bool, play: "Callable[[Environment, int], Transcript]") -> None:
    """Play a game in the terminal; where stdin ends, the game does.

    Args:
      is_second: whether the model moves first.
      play: plays a level of an environment.
    """
    environment = WithPerson()
    try:
        reward = play(environment, 0 if is_second else 1).reward
    except EOFError:
        print("\nthe game ends here, since stdin does")
        return
    if reward != ILLEGAL:
        print(draw_board(environment.game.moves))
    print(ENDINGS[reward])


def ask(moves: Moves) -> int:
    """The person's move, which is legal.

    Raises:
      EOFError: stdin has ended.
    """
    print(draw_board(moves))
    while True:
        print("your square: ", end="", flush=True)
        line = sys.stdin.buffer.readline(1000) if sys.stdin else b""  # None: closed
        if not line:
            raise EOFError
        text = line.decode("utf-8", "replace").strip()
        if not sys.stdin.isatty():  # which shows what is typed
            print(console.escape(text))
        if square := parse_move(moves, text, ended=True):
            return square
        print(f"type the number of a free square: {', '.join(map(str, legal_moves(moves)))}")
