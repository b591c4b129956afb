"""An environment of a few letters: a policy writes, is answered with letters, and is paid for what it wrote."""

import dataclasses
from collections.abc import Callable

import numpy as np

LETTERS = "\nabcdefg"  # a token each; the first ends an answer
END = 0


class LetterTokenizer:
    name, vocab_size, end = "letters", len(LETTERS), END

    def encode(self, text):
        return np.array([LETTERS.index(letter) for letter in text], np.uint16)

    def encode_prompt(self, text):
        return self.encode(text).tolist()

    def decode(self, ids):
        return "".join(LETTERS[i] for i in ids)


TOKENIZER = LetterTokenizer()


def share_of_a(level, answers):
    """A reward of many values."""
    text = "".join(answers)
    return round(text.count("a") / max(len(text), 1), 2) - 0.1 * level


@dataclasses.dataclass
class Conversation:
    """As environments.base.Episode."""

    talk: "Talk"
    level: int
    seed: int

    def __post_init__(self):
        self.prompt, self.reward, self.answers, self.ended = "abcdefg"[: 1 + self.level % 7], 0.0, [], []

    @property
    def learned(self):
        return not self.talk.itself or len(self.answers) % 2 == 0

    def answer(self, text, ended):
        self.answers.append(text)
        self.ended.append(ended)
        self.reward = self.talk.reward(self.level, self.answers)
        if len(self.answers) == self.talk.max_answers:
            return None
        return "abc"[: (self.seed + len(self.answers)) % 4] * self.talk.says


@dataclasses.dataclass
class Talk:
    """As environments.base.Environment; it keeps its conversations."""

    reward: Callable = share_of_a
    num_levels: int = 5
    max_answers: int = 3
    says: int = 1
    itself: bool = False
    name: str = "talk"
    fingerprint: str = "0" * 64
    best: float = 0.1
    answer_tokens: int = 3
    end: str = "\n"

    def __post_init__(self):
        self.started = []

    def start(self, level, seed):
        self.started.append(Conversation(self, level, seed))
        return self.started[-1]
