"""A file of prompts with a reward: an environment of one answer."""

import hashlib

from jaxgpt.data.prompts import Prompts
from jaxgpt.environments.reward_process import Answer, RewardProcess
from jaxgpt.environments.rewards import Reward


class Question:
    """An episode: a prompt, and one answer; see base.Episode. Rewards are computed together, when one is read."""

    learned = True

    def __init__(self, environment: "PromptEnvironment", prompts: Prompts, number: int):
        self.prompt = prompts.prompts[number]
        self._environment, self._prompts, self._number = environment, prompts, number
        self.value: float | None = 0.0  # None: it has an answer, and no reward yet

    def answer(self, text: str, ended: bool) -> None:
        self.value = None
        where, record = self._prompts.where(self._number), self._prompts.records[self._number]
        self._environment.pending.append((self, Answer(where, self.prompt, text, record)))

    @property
    def reward(self) -> float:
        """DataError: the function failed, maybe on another answer that waits for its reward."""
        if self.value is None:
            self._environment.compute_rewards()
        return self.value


class PromptEnvironment:
    """As base.Environment, without examples; level k is prompt k, and after the last comes the first again.

    Args:
      reward: of a prompt and its answer; 1 or more counts as solved.
      process: that of another environment with this reward, to share it; None: one of its own.

    Raises:
      DataError: a record lacks what the reward reads, or its function can't be loaded.
    """

    best, answer_tokens, max_answers, end = 1.0, None, 1, None

    def __init__(self, prompts: Prompts, reward: Reward, process: RewardProcess | None = None):
        for number, record in enumerate(prompts.records):
            reward.check(prompts.where(number), record)
        self.name = f"{prompts.name} with {reward.spec}"
        self.fingerprint = hashlib.sha256((prompts.fingerprint + reward.fingerprint).encode()).hexdigest()
        self.num_levels, self.is_chat = len(prompts), prompts.is_chat
        self.pending: list[tuple[Question, Answer]] = []  # answers whose rewards nobody has read
        self.process = process or RewardProcess(reward)
        self._prompts = prompts

    def start(self, level: int, seed: int) -> Question:
        return Question(self, self._prompts, level % self.num_levels)

    def compute_rewards(self) -> None:
        """Those of all pending answers, in one go."""
        pending, self.pending = self.pending, []
        rewards = self.process.rewards([answer for _, answer in pending])
        for (question, _), reward in zip(pending, rewards, strict=True):
            question.value = reward
