"""Policy gradients: what a policy wrote is made likelier or less likely by what it was worth.

A rollout gives each answer an advantage, how much better it was than others, and a weight in the loss; the objectives
differ in these alone. A group is several answers to one prompt.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models.base import Model
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.models.ops.cross_entropy import log_likelihoods
from jaxgpt.objectives.base import Batch, Metrics, Objective

MAX_LOG_RATIO = 20.0  # exp of it is finite, and so is its gradient


def token_log_probs(model: Model, batch: Batch, keys: jax.Array | None = None) -> jax.Array:
    """The log-probability of each target, in nats, float32 (B, T); 0 where there is none.

    Args:
      batch: int32 (B, T): `tokens`; `targets`, the token that follows each, below 0 where the policy did not write it.
      keys: (B,), each sequence's dropout key; None: no dropout.
    """
    model = pad_vocab_for_gpu(model)
    hidden, config = model.hidden(batch["tokens"], keys=keys), model.config
    with jax.named_scope("loss"):
        values = log_likelihoods(
            hidden, model.unembedding(), batch["targets"], config.vocab_size, config.logits_soft_cap
        )
    return jnp.where(batch["targets"] >= 0, values, 0)


def loss(
    model: Model,
    batch: Batch,
    keys: jax.Array | None = None,
    *,
    clip: float = 0.2,
    clip_high: float | None = None,
    beta: float = 0.0,
) -> Metrics:
    """-min(ratio A, clip(ratio) A) + beta k3 of each token, weighted (Schulman et al., 2017, equation 7).

    The ratio is of the policy's probability to the one it had when it wrote the token; so with one update a rollout it
    is 1, the loss's value says nothing, and its gradient is -A times that of the log-probability. k3 is exp(d) - d - 1,
    where d is the reference's log-probability less the policy's (Shao et al., 2024, equation 4). Its value estimates
    the divergence of the policy from the reference (Schulman, 2020, "Approximating KL divergence"), and its gradient is
    that of the reference from the policy, which keeps whatever the reference may write possible.

    Args:
      batch: as for token_log_probs; float32 (B, T) `old`, the log-probabilities that the rollout was written with, and
        `reference`, where beta is above 0; float32 (B,) `advantage`, `weight`, and what else is logged.
      clip: how far below 1 a ratio may be, and above it without `clip_high`.
      clip_high: how far above 1.
      beta: what the divergence from the reference costs. A group of equal rewards, whose weight is 0, costs nothing.
    """
    written = batch["targets"] >= 0
    log_probs = token_log_probs(model, batch, keys)
    advantage, weight = batch["advantage"][:, None], batch["weight"][:, None]
    ratio = jnp.exp(jnp.minimum(log_probs - batch["old"], MAX_LOG_RATIO))
    clipped = jnp.clip(ratio, 1 - clip, 1 + (clip if clip_high is None else clip_high))
    losses = -jnp.minimum(ratio * advantage, clipped * advantage)
    tokens, rows = written.sum(dtype=jnp.float32), jnp.float32(len(weight))
    metrics = {
        "entropy": (-jnp.where(written, batch["old"], 0).sum(), tokens),
        "clipped": (jnp.where(written, ratio != clipped, False).sum(dtype=jnp.float32), tokens),
    }
    if "reference" in batch:
        d = jnp.minimum(batch["reference"] - log_probs, MAX_LOG_RATIO)
        k3 = jnp.exp(d) - d - 1
        losses += beta * k3
        metrics["kl"] = jnp.where(written, k3, 0).sum(), tokens
    total = (weight * jnp.where(written, losses, 0)).sum()
    return {"loss": (total, rows)} | _column_sums(batch) | metrics


def measure(model: Model, batch: Batch, **settings: float) -> Metrics:
    """Rewards of a rollout on validation data; their negative is the loss. It needs neither model nor settings."""
    del model, settings
    columns = {name: sums for name, sums in _column_sums(batch).items() if name not in OF_GROUPS}
    total, count = columns["reward"]
    square = jnp.where(batch["weight"] > 0, batch["reward"] ** 2, 0).sum()
    return {"loss": (-total, count), "loss_squared": (square, count)} | columns


def _column_sums(batch: Batch) -> Metrics:
    """The columns of a rollout that are logged; rows of weight below 0 are filling."""
    counted = batch["weight"] >= 0
    count = counted.sum(dtype=jnp.float32)
    return {name: (jnp.where(counted, batch[name], 0).sum(), count) for name in LOGGED}


OF_GROUPS = ("reward_error", "solved_groups", "equal_groups")
LOGGED = ("reward", "solved", "answer_tokens", "cut", "mismatch", *OF_GROUPS)

# ---- Advantages and weights, of float64 (N, G) rewards and int (N, G) learned tokens: N groups of G answers
# The loss is the sum of weight * (tokens' losses), over N * G. Advantages are exactly 0 where rewards are equal.


def reinforce(rewards: np.ndarray, lengths: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The reward less the mean of the batch's others (Williams, 1992, with a baseline that keeps it unbiased).

    Equal rewards have no advantage, but every answer counts: with `beta` each is drawn to the reference.
    """
    n = rewards.size
    others = (rewards.sum() - rewards) / max(n - 1, 1)
    equal = n > 1 and np.ptp(rewards) == 0  # their mean may be rounded
    return np.zeros_like(rewards) if equal else rewards - others, np.ones_like(rewards)


def rloo(rewards: np.ndarray, lengths: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The reward less the mean of the group's others: REINFORCE leave-one-out (Ahmadian et al., 2024, section 2.3)."""
    others = (rewards.sum(1, keepdims=True) - rewards) / max(rewards.shape[1] - 1, 1)
    return _unless_equal(rewards, rewards - others), _differing(rewards)


def dr_grpo(rewards: np.ndarray, lengths: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The reward less the group's mean, over a constant length (Liu et al., 2025, "Understanding R1-Zero").

    It is (G - 1) / (G max_tokens) times rloo.
    """
    return _centered(rewards), _differing(rewards) / max_tokens


def grpo(rewards: np.ndarray, lengths: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """The group's standardised reward, and the mean over a sequence's tokens (Shao et al., 2024, equation 3).

    Both are biased: prompts whose rewards hardly differ count more, and so do the tokens of short answers.
    """
    weights = _differing(rewards) / np.maximum(lengths, 1)
    return _standardized(rewards), weights * rewards.size / max(_differing(rewards).sum(), 1)


def dapo(rewards: np.ndarray, lengths: np.ndarray, max_tokens: int) -> tuple[np.ndarray, np.ndarray]:
    """grpo's reward, and the mean over all tokens of the batch (Yu et al., 2025, equation 8)."""
    counted = _differing(rewards)
    return _standardized(rewards), counted * rewards.size / max((counted * lengths).sum(), 1)


def _differing(rewards: np.ndarray) -> np.ndarray:
    """1.0 in the groups whose rewards differ, 0.0 in the others, which count for nothing."""
    return np.broadcast_to(np.ptp(rewards, axis=1, keepdims=True) > 0, rewards.shape).astype(float)


def _unless_equal(rewards: np.ndarray, advantages: np.ndarray) -> np.ndarray:
    return np.where(_differing(rewards) > 0, advantages, 0.0)  # a mean of equal numbers may be rounded


def _centered(rewards: np.ndarray) -> np.ndarray:
    return _unless_equal(rewards, rewards - rewards.mean(1, keepdims=True))


def _standardized(rewards: np.ndarray) -> np.ndarray:
    """By the sample's standard deviation, as TRL has it."""
    deviation = rewards.std(1, ddof=1, keepdims=True) if rewards.shape[1] > 1 else 1.0
    return _centered(rewards) / (deviation + 1e-4)


CREDITS = {"reinforce": reinforce, "rloo": rloo, "dr_grpo": dr_grpo, "grpo": grpo, "dapo": dapo}


def _objective(name: str) -> Objective:
    function = functools.partial(loss, clip_high=0.28) if name == "dapo" else loss
    settings = ("clip", "clip_high", "beta")
    return Objective(
        name, "rollouts", function, measure, settings=settings, by_name=True, credit=CREDITS[name], show="reward"
    )


OBJECTIVES = {name: _objective(name) for name in CREDITS}
