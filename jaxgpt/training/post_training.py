"""What is learned of judged answers and of rewards, as flags: an objective's settings and defaults. No JAX."""

import dataclasses
import math
from typing import Any

from jaxgpt.errors import require

# Defaults with --objective. Rates: dpo, Rafailov et al. (2023), appendix B, and as in TRL ipo and kto too; orpo, Hong
# et al. (2024), section 5; simpo, Meng et al. (2024), appendix B; reward, Ouyang et al. (2022), appendix C.2; grpo,
# Shao et al. (2024), section 4.2, dapo, Yu et al. (2025), section 4.1, and as in TRL the other policy gradients too.
PREFERENCES = {"dpo": 1e-6, "ipo": 1e-6, "kto": 1e-6, "orpo": 8e-6, "simpo": 1e-6, "reward": 9e-6}
POLICIES = dict.fromkeys(("reinforce", "rloo", "dr_grpo", "grpo", "dapo"), 1e-6)
LEARNING_RATES = PREFERENCES | POLICIES
RECIPE_OF = dict.fromkeys(PREFERENCES, "preferences") | dict.fromkeys(POLICIES, "rl")
RECIPES: dict[str, dict[str, Any]] = {
    "preferences": {
        "B": 8,
        "accumulate": 8,
        "T": 512,
        "epochs": 1,
        "schedule": "cosine",
        "warmup_ratio": 0.1,
        "weight_decay": 0.0,
        "grad_clip": 1.0,
    },
    "rl": {"B": 64, "T": 256, "weight_decay": 0.0, "grad_clip": 1.0},
}


@dataclasses.dataclass(frozen=True)
class PostTrainingConfig:
    """Settings of an objective for judged answers, dpo to reward, or for rewards, reinforce to dapo."""

    beta: float | None = None
    """dpo, ipo (tau) and kto: how much leaving the reference costs; orpo: the weight of the odds; simpo: the scale of
    the rewards. By default 0.1, for simpo 2. Of rewards: the cost of each token's divergence (k3), by default 0."""
    gamma: float | None = None
    """simpo: the target margin of the rewards, by default 0.5."""
    label_smoothing: float | None = None
    """dpo: the share of the pairs that are taken to be the wrong way round, by default 0."""
    center: float | None = None
    """reward: the weight of the squared sum of a pair's rewards, which keeps their mean near 0; by default 0."""
    clip: float | None = None
    """For rewards: how far a token's probability may move from what it was in the rollout, as a share, by default 0.2;
    it matters with --updates."""
    clip_high: float | None = None
    """The same upward; by default as --clip, for dapo 0.28."""
    max_drop: float | None = dataclasses.field(default=None, metadata={"may_change": True})
    """End the run, with exit code 6, when the chosen answers of --val have lost so many nats of log-probability, on
    average; by default it continues."""

    def __post_init__(self):
        for name in ("beta", "max_drop", "clip", "clip_high"):
            value = getattr(self, name)
            require(value is None or 0 < value < math.inf, name, value, "a finite number above 0")
        for name, most in (("gamma", math.inf), ("center", math.inf), ("label_smoothing", 0.5)):
            value = getattr(self, name)
            require(value is None or 0 <= value < most, name, value, f"from 0 to below {most:g}")

    @property
    def settings(self) -> dict[str, float]:
        """The settings of the objective that are given."""
        return {name: value for name, value in vars(self).items() if name != "max_drop" and value is not None}
