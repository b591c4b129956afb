"""Policy gradients against all answers that there are, against the formulas in double precision, and against loops."""

import functools
import itertools
import math
import statistics

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import choose_objective
from jaxgpt.objectives.policy import CREDITS, LOGGED, loss, token_log_probs
from jaxgpt.training.step import loss_and_grads
from tests.support.models import random_model

V, LENGTH = 6, 3
CONFIG = GPT2Config(vocab_size=V, block_size=LENGTH, n_layer=1, n_head=2, n_embd=8)
ANSWERS = np.array([*itertools.product(range(V), repeat=LENGTH)], np.int32)  # (216, 3)
gradient = jax.jit(jax.grad(lambda model, batch: loss(model, batch)["loss"][0]))
log_probs = jax.jit(token_log_probs)


@jax.jit
def run(model, batch, settings):
    """The loss with all metrics, and the gradient; batches of 6 answers have one program."""

    def minimized(model):
        metrics = loss(model, batch, **settings)
        return metrics["loss"][0], metrics

    return jax.value_and_grad(minimized, has_aux=True)(model)


@jax.jit
def pulled_back(model, batch, slopes):
    """The gradient of what has these slopes by the log-probability of each token."""
    return jax.vjp(lambda model: token_log_probs(model, batch), model)[1](slopes)[0]


@pytest.fixture(scope="module")
def model():
    return random_model(CONFIG, 0.4)


def flat(tree):
    return np.concatenate([np.asarray(leaf, np.float64).ravel() for leaf in jax.tree.leaves(tree)])


def batch_of(tokens, targets, **columns):
    """A batch with these columns; what is only logged is 0."""
    logged = dict.fromkeys(LOGGED, np.zeros(len(tokens), np.float32))
    columns = {name: np.asarray(value, np.float32) for name, value in columns.items()}
    return {"tokens": np.int32(tokens), "targets": np.int32(targets)} | logged | columns


# ---- All answers to two prompts, tokens 0 and 1. With `end`, token 5 ends an answer: what is behind it is none


def answers(prompt, end):
    """Tokens and targets (216, 3), lengths, and which rows are the first with that answer."""
    ended = (ANSWERS == V - 1) & end
    lengths = np.where(ended.any(1), ended.argmax(1) + 1, LENGTH)
    targets = np.where(np.arange(LENGTH) < lengths[:, None], ANSWERS, -1)
    _, first = np.unique(targets, axis=0, return_index=True)
    tokens = np.concatenate([np.full((len(targets), 1), prompt), ANSWERS[:, :-1]], 1).astype(np.int32)
    return tokens, targets, lengths, np.isin(np.arange(len(targets)), first)


@jax.jit
def expected_reward(model, tokens, targets, is_first, rewards):
    """By its definition, with the gradient; and the probability of each answer."""

    def value(model):
        every = jax.nn.log_softmax(model(tokens))
        taken = jnp.take_along_axis(every, jnp.maximum(targets, 0)[..., None], -1)[..., 0]
        p = jnp.exp(jnp.where(targets >= 0, taken, 0).sum(1)) * is_first
        return (p * rewards).sum(), p

    return jax.grad(value, has_aux=True)(model)


def gradients(model, name, G, end, prompt=0, scale=1.0):
    """Of a batch that is a group of G answers, over all such groups, weighted by their probability; and what it is of.

    The gradient of a row is weight * advantage times one that is the answer's own, so these are added up first.
    """
    tokens, targets, lengths, is_first = answers(prompt, end)
    rewards = scale * np.random.default_rng(prompt).normal(1, 1, len(tokens)).round(1)  # some are equal
    wanted, p = expected_reward(model, tokens, targets, is_first, np.float32(rewards))
    np.testing.assert_allclose(p.sum(), 1, rtol=1e-5)

    @functools.cache
    def credit(*answers):
        group, of_lengths = np.array(answers).T[:, None]
        advantage, weight = CREDITS[name](group, of_lengths, LENGTH)
        return (advantage * weight)[0].tolist()

    facts, chances = [*zip(rewards.tolist(), lengths.tolist(), strict=True)], np.float64(p).tolist()
    coefficients = [0.0] * len(tokens)
    for group in itertools.product(np.flatnonzero(is_first).tolist(), repeat=G):
        chance = math.prod(chances[i] for i in group)
        for i, value in zip(group, credit(*[facts[i] for i in group]), strict=True):
            coefficients[i] += chance * value / G
    old = log_probs(model, {"tokens": tokens, "targets": targets})
    batch = batch_of(tokens, targets, old=old, advantage=coefficients, weight=np.ones(len(tokens)))
    return -flat(gradient(model, batch)), flat(wanted)


@pytest.mark.parametrize("end", [False, True])
@pytest.mark.parametrize(
    "name, G, scale",
    [("reinforce", 1, 1), ("reinforce", 2, 1), ("rloo", 2, 1), ("dr_grpo", 2, 1 / (2 * LENGTH))],
)
def test_over_all_groups_the_mean_gradient_is_that_of_the_expected_reward(model, name, G, scale, end):
    found, wanted = gradients(model, name, G, end)
    assert np.linalg.norm(found / scale - wanted) < 1e-5 * np.linalg.norm(wanted)


COSINES = {"rloo": [1, 1, 1, 1], "grpo": [0.992, 0.422, 0.894, 0.693], "dapo": [0.992, 0.422, 0.952, 0.661]}


@pytest.mark.parametrize("name", COSINES)
def test_standardized_rewards_have_another_direction(model, name):
    """The cosine with the gradient of the expected reward: answers of one length and of several, and of each the
    answers to one prompt and to two that come equally often, one of which has rewards ten times as large."""

    def cosine(scales, end):
        pairs = [gradients(model, name, 2, end, prompt, scale) for prompt, scale in enumerate(scales)]
        found, wanted = np.sum(pairs, axis=0)
        return found @ wanted / np.linalg.norm(found) / np.linalg.norm(wanted)

    cosines = [cosine(scales, end) for end in (False, True) for scales in ([1], [1, 10])]
    np.testing.assert_allclose(cosines, COSINES[name], atol=1e-9 if name == "rloo" else 1e-3)


def test_the_mean_gradient_of_the_cost_is_that_of_the_divergence_of_the_reference_from_the_policy(model):
    """Over all first tokens."""
    tokens, targets = np.zeros((V, LENGTH), np.int32), np.full((V, LENGTH), -1, np.int32)
    targets[:, 0] = np.arange(V)
    every = jax.jit(lambda model: jax.nn.log_softmax(model(tokens[:1])[0, 0]))
    reference, log_p = (np.asarray(every(each)) for each in (random_model(CONFIG, 0.4, seed=1), model))
    wanted = jax.jit(jax.grad(lambda model: (jnp.exp(reference) * (reference - every(model))).sum()))(model)
    columns = {"old": log_p[:, None] + np.zeros(LENGTH), "reference": reference[:, None] + np.zeros(LENGTH)}
    batch = batch_of(tokens, targets, **columns, advantage=np.zeros(V), weight=np.exp(log_p))
    found = flat(run(model, batch, {"clip": 0.2, "clip_high": 0.2, "beta": 1.0})[1])
    assert np.linalg.norm(found - flat(wanted)) < 1e-5 * np.linalg.norm(flat(wanted))


# ---- The formulas, in double precision


def their_loss(log_probs, old, reference, advantage, weight, learned, clip, clip_high, beta):
    """Sum of the weighted losses, and its slope by each log-probability, token by token."""
    total, slopes = 0.0, np.zeros(log_probs.shape)
    for row, column in zip(*np.nonzero(learned), strict=True):
        at, A = (row, column), advantage[row]
        ratio = math.exp(log_probs[at] - old[at])
        clipped = min(max(ratio, 1 - clip), 1 + clip_high)
        d = reference[at] - log_probs[at]
        total += weight[row] * (-min(ratio * A, clipped * A) + beta * (math.exp(d) - d - 1))
        slopes[at] = weight[row] * (-ratio * A * (ratio * A <= clipped * A) + beta * (1 - math.exp(d)))
    return total, slopes


@pytest.fixture
def off_policy(model):
    """Six answers: ratios from 0.4 to 2.5 with advantages of both signs; some tokens are another's."""
    rng = np.random.default_rng(0)
    tokens, targets = (rng.integers(0, V, (6, LENGTH), dtype=np.int32) for _ in range(2))
    targets = np.where(rng.random(targets.shape) < 0.3, -1, targets)
    values = np.asarray(log_probs(model, {"tokens": tokens, "targets": targets}))
    columns = {"old": values + rng.uniform(-0.9, 0.9, values.shape), "advantage": rng.normal(0, 2, 6)}
    columns |= {"reference": values + rng.uniform(-2, 2, values.shape), "weight": rng.uniform(0, 2, 6)}
    return batch_of(tokens, targets, **columns)


@pytest.mark.parametrize(
    "settings", [{"clip": 0.2, "clip_high": 0.2, "beta": 0.04}, {"clip": 0.1, "clip_high": 0.6, "beta": 1.0}]
)
def test_the_loss_and_every_gradient_are_those_of_the_formula(model, off_policy, settings):
    values, learned = np.asarray(log_probs(model, off_policy)), off_policy["targets"] >= 0
    columns = [np.float64(off_policy[key]) for key in ("old", "reference", "advantage", "weight")]
    total, slopes = their_loss(np.float64(values), *columns, learned, **settings)
    (_, metrics), grads = run(model, off_policy, settings)
    np.testing.assert_allclose(metrics["loss"], (total, V), rtol=1e-5)
    wanted = flat(pulled_back(model, off_policy, np.float32(slopes)))
    np.testing.assert_allclose(flat(grads), wanted, atol=2e-6 * abs(wanted).max())
    ratio = np.exp(values - off_policy["old"])[learned]
    outside = ((ratio < 1 - settings["clip"]) | (ratio > 1 + settings["clip_high"])).sum()
    assert 0 < outside < learned.sum() and metrics["clipped"] == (outside, learned.sum())


def test_the_objective_has_its_settings_and_parts_of_a_batch_add_up_to_the_whole(model, off_policy):
    objective = choose_objective("rollouts", "dapo", settings={"beta": 0.5})
    (_, metrics), grads = run(model, off_policy, {"clip": 0.2, "clip_high": 0.28, "beta": 0.5})
    parts = jax.jit(functools.partial(loss_and_grads, objective=objective, accumulate=3))
    summed, their_grads = parts(model, off_policy)
    np.testing.assert_allclose(flat(their_grads), flat(grads), atol=1e-5 * abs(flat(grads)).max())
    assert summed.keys() == metrics.keys()
    for name, pair in metrics.items():
        np.testing.assert_allclose(summed[name], pair, rtol=1e-5)


def test_probabilities_of_zero_and_what_nobody_learns_leave_all_finite(model, off_policy):
    settings = {"clip": 0.2, "clip_high": 0.2, "beta": 0.1}
    learned = off_policy["targets"] >= 0
    (_, metrics), grads = run(model, off_policy, settings)
    for value in (np.inf, -np.inf, np.nan, 1e30):
        other = {name: np.where(learned, off_policy[name], np.float32(value)) for name in ("old", "reference")}
        (_, same), same_grads = run(model, off_policy | other, settings)
        assert np.array_equal(flat(same), flat(metrics)) and np.array_equal(flat(same_grads), flat(grads))
    for name, distance in itertools.product(("old", "reference"), (-1000, 1000)):
        (_, metrics), grads = run(model, off_policy | {name: np.float32(off_policy[name] + distance)}, settings)
        assert np.isfinite(flat(metrics)).all() and np.isfinite(flat(grads)).all()
        assert flat(grads).any() or name == "old"
    np.testing.assert_allclose(metrics["kl"][0] / metrics["kl"][1], np.exp(20) - 21, rtol=1e-5)


# ---- Credits


@pytest.mark.parametrize("value", [0.1, -0.7, 1e6 / 3, 0.0])
@pytest.mark.parametrize("name", CREDITS)
def test_equal_rewards_have_no_gradient_at_all(model, off_policy, name, value):
    """With a reference neither, but for reinforce, which has no groups: each answer is drawn to it."""
    advantage, weight = CREDITS[name](np.full((2, 3), value), np.full((2, 3), 3), LENGTH)
    assert not advantage.any() and weight.any() == (name == "reinforce")
    batch = off_policy | {"advantage": np.float32(advantage.ravel()), "weight": np.float32(weight.ravel())}
    without = {key: column for key, column in batch.items() if key != "reference"}
    assert not flat(gradient(model, without)).any()
    _, with_reference = run(model, batch, {"clip": 0.2, "clip_high": 0.2, "beta": 0.1})
    assert flat(with_reference).any() == (name == "reinforce")


def by_hand(name, rewards, lengths, max_tokens):
    """Advantages and weights of lists of groups, answer by answer."""
    differ = [len(set(group)) > 1 for group in rewards]
    tokens = sum(sum(of) for of, counts in zip(lengths, differ, strict=True) if counts)
    everything, rows = [r for group in rewards for r in group], []
    for g, group in enumerate(rewards):
        for i, reward in enumerate(group):
            others = group[:i] + group[i + 1 :]
            if name == "reinforce":
                rest = everything[: g * len(group) + i] + everything[g * len(group) + i + 1 :]
                rows.append((reward - statistics.fmean(rest), 1))
            elif not differ[g]:
                rows.append((0, 0))
            elif name == "rloo":
                rows.append((reward - statistics.fmean(others), 1))
            elif name == "dr_grpo":
                rows.append((reward - statistics.fmean(group), 1 / max_tokens))
            else:
                standard = (reward - statistics.fmean(group)) / (statistics.stdev(group) + 1e-4)
                share = 1 / sum(differ) / len(group) / lengths[g][i] if name == "grpo" else 1 / tokens
                rows.append((standard, share * len(everything)))
    return np.array(rows).T.reshape(2, len(rewards), -1)


@pytest.mark.parametrize("name", CREDITS)
def test_credits_are_those_of_a_loop_over_answers(name):
    rewards = [[0.1, 0.3, 0.1, 0.1], [0.1, 0.1, 0.1, 0.1], [-1.5, 0.8, 0.8, 1.0], [0.7, 0.7, 0.7, 0.7]]
    lengths = [[1, 2, 3, 4], [5, 5, 5, 5], [9, 1, 1, 2], [3, 3, 1, 1]]
    found = CREDITS[name](np.array(rewards), np.array(lengths), 9)
    np.testing.assert_allclose(found, by_hand(name, rewards, lengths, 9), rtol=1e-12, atol=1e-15)
    assert (found[0][[1, 3]] == 0).all() or name == "reinforce"


def test_what_is_measured_of_validation_is_of_the_rows_that_count():
    rewards, weight = np.float32([1, 0.5, -1, 7]), np.float32([1, 1, 1, -1])
    batch = batch_of(np.zeros((4, 3)), np.zeros((4, 3)), reward=rewards, weight=weight, solved=rewards == 1)
    metrics = choose_objective("rollouts", "rloo", settings={"beta": 0.1, "clip": 0.3}).validation_metrics(None, batch)
    assert metrics["loss"] == (-0.5, 3) and metrics["reward"] == (0.5, 3) and metrics["solved"] == (1, 3)
    assert metrics["loss_squared"] == (2.25, 3) and "reward_error" not in metrics  # one_pass has no groups
