"""What a policy is rewarded for, and how much it writes, as flags. No JAX."""

import dataclasses
from typing import Any

from jaxgpt.data.config import DataConfig
from jaxgpt.errors import UsageError, require
from jaxgpt.training.post_training import POLICIES


@dataclasses.dataclass(frozen=True)
class RolloutConfig:
    """Reinforcement learning: where answers are written, and what they are worth."""

    env: str | None = None
    """An environment: tic-tac-toe, gymnasium/FrozenLake-v1, reasoning-gym/countdown, ..., and its settings:
    tic-tac-toe:opponent=minimax. docs/rl.md has them all."""
    reward: str | None = None
    """In place of --env, what an answer to a prompt of --data is worth: FILE.py:FUNCTION, called with the prompt, the
    answer and the record; or exact:FIELD, number:FIELD, regex:PATTERN or length:N."""
    group_size: int = 8
    """Answers to each prompt, or episodes of each level; it divides the sequences of a step, --B times --accumulate."""
    answer_tokens: int | None = None
    """The most tokens of an answer; by default the environment's own number, for prompts what --T leaves."""
    updates: int = 1
    """Optimizer updates on each rollout, all in one step."""
    show_every: int = dataclasses.field(default=50, metadata={"may_change": True, "observes": True})
    """Steps between the examples of answers in answers.jsonl; 0: none."""

    def __post_init__(self):
        for name in ("group_size", "updates"):
            require(1 <= getattr(self, name) <= 10**6, name, getattr(self, name), "from 1 to 1,000,000")
        require(0 <= self.show_every < 2**31, "show_every", self.show_every, "from 0 to 2**31 - 1")
        n = self.answer_tokens
        require(n is None or 1 <= n < 2**31, "answer_tokens", n, "from 1 to 2**31 - 1")

    def require_objective(self, config: Any) -> None:
        """Refuse what does not go with the objective, the data and the other flags of a TrainConfig, which has this."""
        objective, data = config.preset.objective, config.data
        given = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        if objective not in POLICIES:
            if given:
                needs = f"it is for reinforcement learning: add --objective {', '.join(POLICIES)}, or leave it out"
                raise UsageError(f"--{given[0].replace('_', '-')}: {needs}")
            return
        has_data = data.data != DataConfig.data or data.mix is not None
        if (self.env is None) == (self.reward is None):
            both = "both say what is rewarded; leave one out" if self.env else "needs --env, or --reward and --data"
            raise UsageError(f"--objective {objective}: " + ("--env and --reward " if self.env else "it ") + both)
        if self.env is not None and (has_data or data.val is not None):
            unread = "--mix" if data.mix is not None else "--data" if has_data else "--val"
            raise UsageError(f"{unread}: --env {self.env} has its own levels; leave {unread} out")
        if self.reward is not None and (not has_data or data.mix is not None):
            unmixed = ", and leave --mix out" * (data.mix is not None)
            raise UsageError(f"--reward {self.reward}: name a .jsonl of prompts with --data{unmixed}")
        if data.T < 2:
            raise UsageError(f"--T {data.T} has no room for an answer; use 2 or more")
        if data.B_step % self.group_size:
            sequences = f"--B {data.B}" + f" times --accumulate {data.accumulate}" * (data.accumulate > 1)
            raise UsageError(f"{sequences} must be divisible by --group-size {self.group_size}")
        if objective != "reinforce" and self.group_size == 1:
            raise UsageError(f"--objective {objective} compares the answers of a group; use --group-size 2 or more")
        if data.order != DataConfig.order:
            raise UsageError(f"--order {data.order}: every epoch has an order of its own anyhow; leave --order out")
        if dropout := config.model.dropout:
            raise UsageError(f"--dropout {dropout:g}: answers are written without it; --objective {objective} takes 0")
        if config.post_training.beta and config.preset.init_from is None:
            costs = "is what the divergence from the weights of --init-from costs"
            raise UsageError(f"--beta {config.post_training.beta:g} {costs}; name them, or leave --beta out")
