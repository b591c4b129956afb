"""Rollouts as a dataset: what a policy writes in an environment, a pure function of its weights and the position.

Row r of the batch at a position plays a level with a key of its own, fold_in(fold_in(key, position), r). So the weights
and one integer are all that a run is, as with any other data, and it resumes to the bit.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jaxgpt.console import plural
from jaxgpt.data.base import Batch, Dataset, all_rows
from jaxgpt.data.datasets import choose_tokenizer, load, require_no_names
from jaxgpt.data.order import permute
from jaxgpt.data.prompts import Prompts, load_prompts
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.environments import open_environment
from jaxgpt.environments.base import Environment, end_token, limit_answer
from jaxgpt.environments.prompts import PromptEnvironment
from jaxgpt.environments.rewards import open_reward
from jaxgpt.errors import DataError
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.post_training import POLICIES

if TYPE_CHECKING:  # JAX is imported when the flags are known to be right
    from jaxgpt.inference.episodes import Transcript

VALIDATION_POSITION = 2**62  # of the keys of a validation, which no run comes to
FILLING = -1.0  # the weight of a row that does not count


@dataclasses.dataclass(frozen=True)
class Rollouts:
    """As base.Dataset; a batch is as objectives.policy has it. The rows of a group, neighbours, play one level.

    Attributes:
      environment: what is played.
      group_size: episodes of each level in a batch.
      answer_tokens: the most tokens of an answer.
      seed: of the levels' order, and of all that is drawn.
      policy: a policy.Policy, which plays and scores; None: a batch has rows of zeros, which tell what it looks like.
      watch: is called with the transcripts of each batch, in the rows of this process.
    """

    environment: Environment
    tokenizer: Tokenizer
    group_size: int
    answer_tokens: int
    seed: int
    B: int
    T: int
    rows: slice = dataclasses.field(default_factory=all_rows)
    policy: Any = None
    watch: "Callable[[Sequence[Transcript]], None] | None" = None
    kind: str = "rollouts"
    notes: Sequence[str] = ()
    labels: Sequence[str] = ()

    @property
    def name(self) -> str:
        return self.environment.name

    @property
    def fingerprint(self) -> str:
        return self.environment.fingerprint

    @property
    def is_chat(self) -> bool:
        return getattr(self.environment, "is_chat", False)

    def batch(self, position: int, model: Any = None) -> tuple[Batch, int]:
        """What `model`, the trained weights, writes; None: rows of zeros."""
        next_position = position + self.B * self.T
        if self.policy is None or model is None:
            return self._zeros(len(range(self.B)[self.rows])), next_position
        first_group = position // self.T // self.group_size
        groups = [self.level(first_group + group) for group in range(self.B // self.group_size)]
        levels = np.repeat(groups, self.group_size)[self.rows].tolist()
        transcripts = self.policy.write(self, model, levels, position)
        if self.watch:
            self.watch(transcripts)
        return self.policy.batch(self, model, transcripts, self.group_size), next_position

    def level(self, group: int) -> int:
        """The level of a group of the run; in each epoch their order is another."""
        epoch, index = divmod(group, self.environment.num_levels)
        return int(permute(np.array(index), self.environment.num_levels, (self.seed, epoch)))

    def one_pass(self, model: Any = None) -> Iterator[Batch]:
        """An episode on each level, for validation; the last batch is filled up with rows of a weight below 0."""
        for start in range(0, self.num_rows(), self.B):
            whole = self._zeros(self.B) | {"weight": np.full(self.B, FILLING, np.float32)}
            if self.policy is not None and model is not None:
                levels = [min(start + row, self.num_rows() - 1) for row in range(self.B)[self.rows]]
                transcripts = self.policy.write(self, model, levels, VALIDATION_POSITION + start)
                for name, array in self.policy.batch(self, model, transcripts, 1).items():
                    whole[name][self.rows] = array
                whole["weight"] = np.where(start + np.arange(self.B) < self.num_rows(), 1, FILLING).astype(np.float32)
            yield whole

    def num_rows(self) -> int:
        return self.environment.num_levels

    def batches_per_epoch(self) -> float:
        return self.environment.num_levels * self.group_size / self.B

    def resume_position(self, saved: int) -> int:
        return saved

    def num_bytes(self) -> int | None:
        return None

    def order_facts(self) -> dict[str, Any]:
        return {"T": self.T, "group_size": self.group_size}

    def __str__(self) -> str:
        return f"{self.name}: {plural(self.num_rows(), 'level')}"

    @property
    def max_tokens(self) -> int:
        """The most tokens that a policy can write in an episode."""
        return min(self.T - 1, self.environment.max_answers * self.answer_tokens)

    def _zeros(self, n: int) -> Batch:
        from jaxgpt.objectives.policy import LOGGED

        columns = ["old", *["reference"] * bool(self.policy and self.policy.reference is not None)]
        batch = {"tokens": np.zeros((n, self.T), np.int32), "targets": np.full((n, self.T), -1, np.int32)}
        batch |= {name: np.zeros((n, self.T), np.float32) for name in columns}
        return batch | {name: np.zeros(n, np.float32) for name in ("advantage", "weight", *LOGGED)}


def load_data(config: TrainConfig) -> tuple[Dataset, Dataset | None]:
    """What a run is trained on, and what it is measured on.

    Raises:
      UsageError, DataError: as load_rollouts and datasets.load have it.
    """
    if config.preset.objective in POLICIES:
        return load_rollouts(config)
    bidirectional = config.model_config().bidirectional
    packing = not config.privacy.is_private  # a row is what such a run protects
    shared = config.preset.predict_tokens, config.fields, bidirectional, packing
    return load(config.data, config.run.seed, *shared, learns_pairs=config.learns_pairs)


def load_rollouts(config: TrainConfig) -> tuple[Rollouts, Rollouts | None]:
    """What --env, or --reward and --data, name, to be trained on; and the prompts of --val.

    Raises:
      UsageError, DataError: there is no such environment, reward or file, or it does not fit the tokenizer.
    """
    tokenizer, flags, B, T = choose_tokenizer(config.data), config.rollout, config.data.B, config.data.T
    environment, validation = _open(config, tokenizer)
    end_token(environment, tokenizer)  # or it is refused
    answer_tokens = limit_answer(environment, T, flags.answer_tokens)
    data = Rollouts(environment, tokenizer, flags.group_size, answer_tokens, config.run.seed, config.data.B_step, T)
    return data, validation and dataclasses.replace(data, environment=validation, B=B)


def _open(config: TrainConfig, tokenizer: Tokenizer) -> tuple[Environment, Environment | None]:
    """What is trained on, and what is measured."""
    if config.rollout.env is not None:
        require_no_names(config.fields, f"--env {config.rollout.env}")
        return open_environment(config.rollout.env), None
    flags, validation = config.data, None
    prompts = load_prompts(flags.data, config.fields, tokenizer.end_text)
    if flags.val_fraction:
        prompts, validation = prompts.split(flags.val_fraction, config.run.seed)
    elif flags.val is not None:
        validation = load_prompts(flags.val, config.fields, tokenizer.end_text)
    for part in filter(None, (prompts, validation)):
        _require_room(part, tokenizer, flags.T)
    reward = open_reward(config.rollout.reward)
    environment = PromptEnvironment(prompts, reward)
    return environment, validation and PromptEnvironment(validation, reward, environment.process)


def _require_room(prompts: Prompts, tokenizer: Tokenizer, T: int) -> None:
    """Refuse, before the first step, a prompt that leaves no room for an answer."""
    for number, prompt in enumerate(prompts.prompts):
        if not 1 <= (n := len(tokenizer.encode_prompt(prompt))) < T:
            takes = f"the prompt has {n:,} tokens, and --T {T:,} takes 1 to {T - 1:,}"
            raise DataError(f"{prompts.where(number)}: {takes}; correct it, or use a larger --T")
