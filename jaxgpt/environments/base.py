"""What an environment is: levels, and on each of them an episode of texts and answers that ends with a reward."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Protocol

from jaxgpt.errors import UsageError

if TYPE_CHECKING:  # the process of a reward, which imports this folder, starts in a third of the time without numpy
    from jaxgpt.data.tokenizer import Tokenizer


class Episode(Protocol):
    """One play of a level.

    Attributes:
      prompt: what is read before the first answer.
      learned: whether the policy learns from the next answer; False: it plays another side there.
      reward: of the answers so far; when the episode is over, of all of it.
    """

    prompt: str
    learned: bool
    reward: float

    def answer(self, text: str, ended: bool) -> str | None:
        """Take an answer.

        Args:
          text: without what ends it.
          ended: whether it was ended; False: there was no room for more.

        Returns:
          What is read before the next answer, "" for nothing; None: the episode is over.
        """


class Environment(Protocol):
    """Levels, which are pure functions of numbers: nothing is kept between episodes.

    Attributes:
      name: what the user calls it.
      fingerprint: SHA-256 of what decides its episodes.
      num_levels: levels below it are for training, those from it on for measuring.
      best: the highest reward that an episode can get.
      answer_tokens: the most tokens of an answer, by default.
      max_answers: the most answers of an episode.
      end: the text of the token that ends an answer; None: the one that ends a document.
    """

    name: str
    fingerprint: str
    num_levels: int
    best: float
    answer_tokens: int | None
    max_answers: int
    end: str | None

    def start(self, level: int, seed: int) -> Episode:
        """An episode on a level; what is random in it is drawn with the seed."""

    def example(self, level: int, seed: int) -> tuple[str, str]:
        """A prompt, and what may follow it, to pretrain on: a right answer, or an episode of random answers.

        Raises:
          UsageError: there are no right answers to show.
        """


def end_token(environment: Environment, tokenizer: "Tokenizer") -> int:
    """The id of the token that ends an answer.

    Raises:
      UsageError: the tokenizer has none.
    """
    ids = [tokenizer.end] if environment.end is None else tokenizer.encode(environment.end).tolist()
    if len(ids) != 1 or ids[0] is None:
        end = "the end of a document" if environment.end is None else repr(environment.end)
        lacks = f"and the tokenizer {tokenizer.name} has no such token; use --tokenizer bytes"
        raise UsageError(f"{environment.name} ends an answer with {end}, {lacks}")
    return ids[0]


def limit_answer(environment: Environment, T: int, answer_tokens: int | None) -> int:
    """The most tokens of an answer: what the user says, or else the environment, as far as an episode of T has room."""
    return min(answer_tokens or environment.answer_tokens or T, T - 1)


def require_settings(where: str, settings: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse a setting that a library's environment does not have, or that is not of its default's type.

    Args:
      where: what the user wrote, for the error.
      defaults: all settings that there are; None, a tuple or the like: the library checks the type.
    """
    for name, value in settings.items():
        if name not in defaults:
            raise UsageError(f"{where}: no setting {name!r}; it has {', '.join(defaults)}")
        kind = type(defaults[name])
        fits = type(value) is kind or (kind is float and type(value) is int)
        if kind in (bool, int, float, str) and not fits:
            words = {bool: "true or false", int: "an integer", float: "a number", str: "a text"}
            raise UsageError(f"{where}: {name}={value} must be {words[kind]}")


def one_line(error: Exception) -> str:
    """What a library's exception says, for an error of one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:200]
