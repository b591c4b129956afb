"""Which answer is better: losses of pairs of answers, and of rated ones, of the model itself or of a reward's head.

A policy writes the answers. Its losses are functions of the log-probabilities of whole answers; dpo, ipo and kto
compare these with a reference's, the weights that training began with. They are a column of the data, so that no second
model is held. A reward model tells how good an answer is, by a head of one output on its last token.
"""

import dataclasses
import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgpt.models.base import Model, matmul_precision
from jaxgpt.models.configs import REWARD
from jaxgpt.models.convert import pad_vocab_for_gpu
from jaxgpt.models.ops.cross_entropy import log_likelihoods
from jaxgpt.objectives.base import Batch, Metrics, Objective


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a policy thinks of the answers of a batch; arrays float32 (B, 2), chosen and rejected, or (B,), rated.

    Attributes:
      log_probs: the log-probability of each, given its prompt, in nats.
      lengths: tokens of each, with the one that ends it.
      text_means: the mean log-probability of the tokens of prompt and answer.
      reference: as log_probs, by the reference; None: there is none.
    """

    log_probs: jax.Array
    lengths: jax.Array
    text_means: jax.Array
    reference: jax.Array | None = None

    @property
    def means(self) -> jax.Array:
        """The mean log-probability of an answer's tokens."""
        return self.log_probs / self.lengths

    @property
    def log_ratios(self) -> jax.Array:
        """The logarithm of the probability by the policy over that by the reference."""
        return self.log_probs - self.reference


def score_answers(model: Model, batch: Batch, keys: jax.Array | None = None) -> Answers:
    """Score the answers of a batch.

    Args:
      batch: `tokens` int32 (B, 2, T), a pair of sequences a row, or (B, T), padded on the right; `start` int32 (B,),
        the column of the answers' first token; `last` int32 (B, 2) or (B,), that of their last; and float32 `reference`
        (B, 2) or (B,), where there is one.
      keys: (B,), each row's dropout key, the same for both answers; None: no dropout.
    """
    tokens, last = _sequences(batch), batch["last"].reshape(-1, 1)
    column = jnp.arange(tokens.shape[1])[None]
    n = len(tokens) // len(batch["start"])
    in_text = column < last  # what follows is of the text
    in_answer = in_text & (column + 1 >= jnp.repeat(batch["start"], n)[:, None])
    targets = jnp.where(in_text, jnp.roll(tokens, -1, axis=1), -1)
    model = pad_vocab_for_gpu(model)
    hidden = model.hidden(tokens, keys=None if keys is None else jnp.repeat(keys, n))  # (N, T, C)
    config = model.config
    with jax.named_scope("loss"):
        values = log_likelihoods(hidden, model.unembedding(), targets, config.vocab_size, config.logits_soft_cap)
    log_probs = jnp.where(in_answer, values, 0).sum(1)
    lengths = jnp.maximum(in_answer.sum(1, dtype=jnp.float32), 1)  # a row that is filling has no answer
    text_means = values.sum(1) / jnp.maximum(in_text.sum(1), 1)
    columns = (each.reshape(batch["last"].shape) for each in (log_probs, lengths, text_means))
    return Answers(*columns, batch.get("reference"))


def reference_log_probs(model: Model, batch: Batch) -> jax.Array:
    """The column `reference` of a batch, by these weights."""
    return score_answers(model, batch).log_probs


def rewards_of(model: Model, batch: Batch, keys: jax.Array | None = None) -> jax.Array:
    """What a reward model says of each answer, float32, in the shape of `last`; arguments as for score_answers."""
    tokens, last = _sequences(batch), batch["last"].reshape(-1)
    n = len(tokens) // len(batch["start"])
    hidden = model.hidden(tokens, keys=None if keys is None else jnp.repeat(keys, n))
    hidden = jnp.take_along_axis(hidden, last[:, None, None], axis=1)[:, 0]  # (N, C)
    with matmul_precision(model.config), jax.named_scope("head"):
        return model.score(hidden.astype(jnp.float32)).reshape(batch["last"].shape)


def _sequences(batch: Batch) -> jax.Array:
    return batch["tokens"].reshape(-1, batch["tokens"].shape[-1])


# ---- Losses of a policy, (B,), and the rewards that it implies, in the shape of the answers


def dpo(answers: Answers, *, beta: float = 0.1, label_smoothing: float = 0.0) -> tuple[jax.Array, jax.Array]:
    """-log sigmoid(rewards' difference) (Rafailov et al., 2023, equation 7; label smoothing after Mitchell, 2023).

    Args:
      beta: how much the KL divergence from the reference costs.
      label_smoothing: the share of the pairs whose answers are taken to be the wrong way round.
    """
    rewards = beta * answers.log_ratios
    margin = rewards[:, 0] - rewards[:, 1]
    smooth = label_smoothing
    return -(1 - smooth) * jax.nn.log_sigmoid(margin) - smooth * jax.nn.log_sigmoid(-margin), rewards


def ipo(answers: Answers, *, beta: float = 0.1) -> tuple[jax.Array, jax.Array]:
    """(difference - 1 / (2 beta))**2, the log-ratios a token (Azar et al., 2023, equation 17, where beta is tau).

    The mean over the tokens in place of the sum is the authors' own correction, as TRL has it.
    """
    ratios = answers.log_ratios / answers.lengths
    return (ratios[:, 0] - ratios[:, 1] - 1 / (2 * beta)) ** 2, beta * ratios


def simpo(answers: Answers, *, beta: float = 2.0, gamma: float = 0.5) -> tuple[jax.Array, jax.Array]:
    """-log sigmoid(rewards' difference - gamma), without a reference (Meng et al., 2024, equation 6)."""
    rewards = beta * answers.means
    return -jax.nn.log_sigmoid(rewards[:, 0] - rewards[:, 1] - gamma), rewards


def orpo(answers: Answers, *, beta: float = 0.1) -> tuple[jax.Array, jax.Array]:
    """The loss of the chosen text, and that of the odds (Hong et al., 2024, equations 6, 7; beta is lambda there)."""
    means = jnp.minimum(answers.means, -1e-6)  # a probability of 1 has no odds
    log_odds = means - jnp.log1p(-jnp.exp(means))
    ratio = jax.nn.log_sigmoid(log_odds[:, 0] - log_odds[:, 1])
    return -answers.text_means[:, 0] - beta * ratio, beta * means


def kto(answers: Answers, good: jax.Array, *, beta: float = 0.1) -> tuple[jax.Array, jax.Array]:
    """1 - sigmoid(reward) of a good answer, sigmoid(reward) of a bad one (Ethayarajh et al., 2024, equation 8).

    The paper's reference point, the divergence on the other answers of a batch, is 0 here, as in TRL's
    apo_zero_unpaired: then an answer's loss does not depend on the batch that it is in.
    """
    rewards = beta * answers.log_ratios
    return jnp.where(good > 0, jax.nn.sigmoid(-rewards), jax.nn.sigmoid(rewards)), rewards


# ---- Their sums over a batch


def pair_loss(loss: Callable, model: Model, batch: Batch, keys: jax.Array | None = None, **settings: float) -> Metrics:
    """A policy's loss of pairs, and what is logged beside it.

    Args:
      loss: of single pairs, such as dpo.
      batch: as for score_answers; and float32 (B,) `weight`, of each pair in the loss, 0 for one that is filling.
    """
    answers, counted = score_answers(model, batch, keys), batch["weight"] > 0
    losses, rewards = loss(answers, **settings)
    is_chosen = counted[:, None] & jnp.array([[True, False]])
    is_rejected = counted[:, None] & jnp.array([[False, True]])
    return (
        _loss_sums(losses, batch["weight"])
        | _margin_sums(rewards, counted)
        | _policy_sums(answers, is_chosen, is_rejected)
    )


def rating_loss(model: Model, batch: Batch, keys: jax.Array | None = None, **settings: float) -> Metrics:
    """As pair_loss, for kto: the batch has int32 (B,) `good`, 1 for a good answer and 0 for a bad one."""
    answers, counted, good = score_answers(model, batch, keys), batch["weight"] > 0, batch["good"] > 0
    losses, rewards = kto(answers, batch["good"], **settings)
    right = _sums((rewards > 0) == good, counted)
    sums = _loss_sums(losses, batch["weight"]) | {"accuracy": right}
    return sums | _policy_sums(answers, counted & good, counted & ~good)


def reward_loss(model: Model, batch: Batch, keys: jax.Array | None = None, *, center: float = 0.0) -> Metrics:
    """-log sigmoid(rewards' difference - margin), of pairs by a reward model (Ouyang et al., 2022, equation 1).

    Args:
      batch: as for pair_loss; and float32 (B,) `margin`, by how much the chosen answer is better (Touvron et al., 2023,
        section 3.2.2).
      center: the weight of the square of the rewards' sum, which keeps their mean near 0 (Eisenstein et al., 2023).
    """
    rewards = rewards_of(model, batch, keys)
    chosen, rejected = rewards.T
    losses = -jax.nn.log_sigmoid(chosen - rejected - batch["margin"]) + center * (chosen + rejected) ** 2
    return _loss_sums(losses, batch["weight"]) | _margin_sums(rewards, batch["weight"] > 0)


def _loss_sums(losses: jax.Array, weight: jax.Array) -> Metrics:
    losses = jnp.where(weight > 0, losses, 0)
    return {"loss": ((weight * losses).sum(), weight.sum()), "loss_squared": ((weight * losses**2).sum(), weight.sum())}


def _margin_sums(rewards: jax.Array, counted: jax.Array) -> Metrics:
    margins = rewards[:, 0] - rewards[:, 1]
    return {"margin": _sums(margins, counted), "accuracy": _sums(margins > 0, counted)}


def _policy_sums(answers: Answers, is_chosen: jax.Array, is_rejected: jax.Array) -> Metrics:
    sums = {
        "chosen_log_prob": _sums(answers.log_probs, is_chosen),
        "rejected_log_prob": _sums(answers.log_probs, is_rejected),
    }
    if answers.reference is None:
        return sums
    # Their mean over answers of the reference is its divergence from the policy.
    falls = answers.reference - answers.log_probs
    return sums | {"kl": _sums(falls, is_chosen | is_rejected), "chosen_drop": _sums(falls, is_chosen)}


def _sums(values: jax.Array, counted: jax.Array) -> tuple[jax.Array, jax.Array]:
    return jnp.where(counted, values, 0).sum(dtype=jnp.float32), counted.sum(dtype=jnp.float32)


def _objective(
    name: str, measure: Callable, settings: tuple[str, ...], data: str = "preferences", **facts: object
) -> Objective:
    def loss(*args: object, **settings: float) -> Metrics:
        return {name: sums for name, sums in measure(*args, **settings).items() if name != "loss_squared"}

    return Objective(name, data, loss, measure, settings=settings, by_name=True, **facts)


_reference = {"reference": reference_log_probs}
OBJECTIVES = {
    "dpo": _objective("dpo", functools.partial(pair_loss, dpo), ("beta", "label_smoothing"), **_reference),
    "ipo": _objective("ipo", functools.partial(pair_loss, ipo), ("beta",), **_reference),
    "orpo": _objective("orpo", functools.partial(pair_loss, orpo), ("beta",)),
    "simpo": _objective("simpo", functools.partial(pair_loss, simpo), ("beta", "gamma")),
    "kto": _objective("kto", rating_loss, ("beta",), data="ratings", **_reference),
    "reward": _objective("reward", reward_loss, ("center",), labels=REWARD),
}
