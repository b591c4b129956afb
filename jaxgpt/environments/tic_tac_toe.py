"""Tic-tac-toe as text: an empty line, and then each move in a line of its own, X's first, squares 1 to 9 by rows."""

import functools
import hashlib
import random
from collections.abc import Callable, Sequence
from typing import NamedTuple

from jaxgpt.errors import UsageError, require

LINES = ((1, 2, 3), (4, 5, 6), (7, 8, 9), (1, 4, 7), (2, 5, 8), (3, 6, 9), (1, 5, 9), (3, 5, 7))
WON, DRAWN, LOST, ILLEGAL = 1.0, 0.8, -1.0, -1.5  # with them the best play against random moves never loses
OPPONENTS = ("uniform", "minimax", "mixed", "itself")
Moves = tuple[int, ...]


def is_won(moves: Moves) -> bool:
    """Whether the last move made a line of three."""
    own = set(moves[-1::-2])
    return any(own.issuperset(line) for line in LINES)


def legal_moves(moves: Moves) -> list[int]:
    """The free squares; none when the game is over."""
    return [] if is_won(moves) else [square for square in range(1, 10) if square not in moves]


def value(moves: Moves) -> int:
    """What perfect play of both is worth to the one whose turn it is: 1 a win, 0 a draw, -1 a loss."""
    ordered = list(moves)  # one order of all that lead to this position
    ordered[::2], ordered[1::2] = sorted(moves[::2]), sorted(moves[1::2])
    return _value(tuple(ordered))


@functools.cache
def _value(moves: Moves) -> int:
    if is_won(moves):
        return -1
    return max((-value((*moves, square)) for square in legal_moves(moves)), default=0)


def best_moves(moves: Moves) -> list[int]:
    """The legal moves of perfect play."""
    return [square for square in legal_moves(moves) if -value((*moves, square)) == value(moves)]


def transcript(moves: Moves) -> str:
    return "\n" + "".join(f"{square}\n" for square in moves)


def draw_board(moves: Moves) -> str:
    """Three lines, with rules between them: X, O, and the numbers of the free squares."""
    marks = [str(square) for square in range(1, 10)]
    for turn, square in enumerate(moves):
        marks[square - 1] = "XO"[turn % 2]
    return "\n---+---+---\n".join(f" {a} | {b} | {c}" for a, b, c in zip(*[iter(marks)] * 3, strict=True))


def parse_move(moves: Moves, text: str, ended: bool) -> int | None:
    """The square that an answer names; None: that is no legal move."""
    square = int(text) if ended and len(text) == 1 and text in "123456789" else 0
    return square if square in legal_moves(moves) else None


class Game:
    """An episode; see base.Episode.

    Args:
      side: the policy's; 0 moves first.
      opponent: chooses the moves of the other side; None: the policy does.
    """

    def __init__(self, side: int, opponent: Callable[[Moves], int] | None):
        self.moves: Moves = ()
        self._side, self._opponent = side, opponent
        self.reward = 0.0
        self.prompt = transcript(()) + (self._reply() if side else "")

    @property
    def learned(self) -> bool:
        return len(self.moves) % 2 == self._side

    def answer(self, text: str, ended: bool) -> str | None:
        square, learned = parse_move(self.moves, text, ended), self.learned
        if square is None:
            self.reward = ILLEGAL if learned else WON
            return None
        self.moves += (square,)
        reply = "" if self._is_over() else self._reply()
        return None if self._is_over() else reply

    def _is_over(self) -> bool:
        if legal_moves(self.moves):
            return False
        last_is_own = len(self.moves) % 2 != self._side  # the other one would move next
        self.reward = (WON if last_is_own else LOST) if is_won(self.moves) else DRAWN
        return True

    def _reply(self) -> str:
        """The move of the opponent, if that is not the policy itself."""
        if self._opponent is None:
            return ""
        self.moves += (self._opponent(self.moves),)
        return f"{self.moves[-1]}\n"


class TicTacToe:
    """As base.Environment; on even levels the policy moves first, on odd ones second.

    What the opponent draws depends on the level alone, so that the episodes of a group differ by the policy's moves.

    Args:
      opponent: uniform, any legal move; minimax, any move of perfect play; mixed, one or the other at each move, which
        tries every reply and punishes every mistake; or itself, the policy too.
    """

    best, answer_tokens, max_answers, end = WON, 2, 9, "\n"
    num_levels = 100_000

    def __init__(self, task: str = "", opponent: str = "uniform"):
        if task:
            raise UsageError(f"--env tic-tac-toe/{task}: there is one such game; leave /{task} out")
        require(opponent in OPPONENTS, "env tic-tac-toe:opponent", opponent, f"one of {', '.join(OPPONENTS)}")
        self.opponent = opponent
        self.name = f"tic-tac-toe against {opponent}"
        self.fingerprint = hashlib.sha256(self.name.encode()).hexdigest()

    def start(self, level: int, seed: int) -> Game:
        draw = random.Random(level)

        def choose(moves: Moves) -> int:
            is_perfect = self.opponent == "minimax" or (self.opponent == "mixed" and draw.random() < 0.5)
            return draw.choice((best_moves if is_perfect else legal_moves)(moves))

        return Game(level % 2, None if self.opponent == "itself" else choose)

    def example(self, level: int, seed: int) -> tuple[str, str]:
        """A game of random legal moves."""
        draw, moves = random.Random(seed), ()
        while legal := legal_moves(moves):
            moves += (draw.choice(legal),)
        return transcript(()), transcript(moves).removeprefix("\n")


# ---- Every game that a player can come to


class Tree(NamedTuple):
    """How many lines of a player's tree end in what."""

    won: int = 0
    drawn: int = 0
    lost: int = 0
    illegal: int = 0


def walk(choose: Callable[[Sequence[str]], Sequence[tuple[str, bool]]], side: int) -> Tree:
    """All games of a player who always answers the same way, against every sequence of legal replies.

    Args:
      choose: transcripts to the player's answers, and whether each was ended.
      side: 0, the player moves first; 1, second.
    """
    counts, games = Tree()._asdict(), [()] if side == 0 else [(square,) for square in range(1, 10)]
    while games:
        answers = choose([transcript(moves) for moves in games])
        squares = [parse_move(moves, *answer) for moves, answer in zip(games, answers, strict=True)]
        counts["illegal"] += squares.count(None)
        played = [(*moves, square) for moves, square in zip(games, squares, strict=True) if square]
        counts["won"] += sum(map(is_won, played))
        counts["drawn"] += sum(not is_won(moves) and not legal_moves(moves) for moves in played)
        replied = [(*moves, reply) for moves in played for reply in legal_moves(moves)]
        counts["lost"] += sum(map(is_won, replied))
        counts["drawn"] += sum(not is_won(moves) and not legal_moves(moves) for moves in replied)
        games = [moves for moves in replied if legal_moves(moves)]
    return Tree(**counts)
