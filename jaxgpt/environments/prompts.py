"""A file of prompts with a reward: an environment of one answer."""

import hashlib

from jaxgpt.data.prompts import Prompts
from jaxgpt.environments.reward_process import LIMIT_S, Answer, RewardProcess
from jaxgpt.environments.rewards import Reward
from jaxgpt.errors import UsageError


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
    """As base.Environment; level k is prompt k, and those from num_levels on are the prompts for validation.

    Args:
      reward: of a prompt and its answer; 1 or more counts as solved.
      validation: prompts to measure on.
      limit_s: the most seconds that the reward of an answer takes.

    Raises:
      DataError: a record lacks what the reward reads, or its function can't be loaded.
    """

    best, answer_tokens, max_answers, end = 1.0, None, 1, None

    def __init__(self, prompts: Prompts, reward: Reward, validation: Prompts | None = None, limit_s: float = LIMIT_S):
        self._prompts, self._validation = prompts, validation
        for each in filter(None, (prompts, validation)):
            for number, record in enumerate(each.records):
                reward.check(each.where(number), record)
        self.name = f"{prompts.name} with {reward.spec}"
        self.fingerprint = hashlib.sha256((prompts.fingerprint + reward.fingerprint).encode()).hexdigest()
        self.num_levels = len(prompts)
        self.num_validation = len(validation) if validation else 0
        self.pending: list[tuple[Question, Answer]] = []  # answers whose rewards nobody has read
        self._process = RewardProcess(reward, limit_s)

    def start(self, level: int, seed: int) -> Question:
        """UsageError: there is no such prompt."""
        return Question(self, *self._find(level))

    def example(self, level: int, seed: int) -> tuple[str, str]:
        """The prompt with the "completion" of its record, or else the "answer"."""
        prompts, number = self._find(level)
        record = prompts.records[number]
        text = next((record[field] for field in ("completion", "answer") if isinstance(record.get(field), str)), None)
        if text is None:
            raise UsageError(f"{prompts.where(number)}: no 'completion' or 'answer', as an example of one; add it")
        blank = " " if prompts.is_chat and text[:1] not in " \t\r\n" else ""  # as in chat.parse_conversation
        return prompts.prompts[number], blank + text

    def compute_rewards(self) -> None:
        """Those of all pending answers, in one go."""
        pending, self.pending = self.pending, []
        questions, answers = zip(*pending, strict=True)
        for question, reward in zip(questions, self._process.rewards(answers), strict=True):
            question.value = reward

    def close(self) -> None:
        """End the process of the reward."""
        self._process.close()

    def _find(self, level: int) -> tuple[Prompts, int]:
        """The file and the number in it of a level's prompt."""
        if level < self.num_levels:
            return self._prompts, level
        if not self.num_validation:
            raise UsageError(f"{self._prompts.name}: no prompts to measure on; give some with --val")
        return self._validation, (level - self.num_levels) % self.num_validation
