"""Losses of judged answers: against single documents, formulas in numpy, and the optimum that is known."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import OBJECTIVES, choose_objective, next_token, preferences
from jaxgpt.objectives.preferences import Answers, reference_log_probs, rewards_of, score_answers
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import build_trainer
from jaxgpt.training.step import init_state_from, loss_and_grads, train_step
from tests.support.models import forward, new_model, spread_model

PAIRS = ("dpo", "ipo", "orpo", "simpo", "reward")
REFERENCE = ("dpo", "ipo", "kto")
LENGTHS = np.array([[9, 13], [13, 4], [6, 7]])  # of prompts and answers; T is 13
STARTS = np.array([3, 2, 5], np.int32)


def make_batch(name="dpo", B=3, T=13, V=61, seed=0):
    """Pairs, or for kto their first answers, rated."""
    rng = np.random.default_rng(seed)
    lengths, starts = LENGTHS[:B], STARTS[:B]
    tokens = rng.integers(1, V, (B, 2, T), dtype=np.int32)
    tokens[:, 1] = np.where(np.arange(T) < starts[:, None], tokens[:, 0], tokens[:, 1])  # of one prompt
    tokens[np.arange(T) >= lengths[..., None]] = 0
    batch = {"tokens": tokens, "start": starts, "last": (lengths - 1).astype(np.int32)}
    batch |= {"margin": np.float32([0, 0.5, 1])[:B], "weight": np.float32([1, 0.5, 2])[:B]}
    batch |= {"reference": (-rng.uniform(10, 30, (B, 2))).astype(np.float32)} if name in REFERENCE else {}
    if name == "kto":
        batch = {key: array[:, 0] if array.ndim > 1 else array for key, array in batch.items()}
        batch["good"] = np.array([1, 0, 1], np.int32)[:B]
    return batch


def make_model(tiny, name="dpo"):
    return spread_model(dataclasses.replace(tiny, n_layer=1, n_labels=len(OBJECTIVES[name].labels)))


def log_probs_alone(model, sequence):
    """Log-probabilities of a sequence's tokens but the first, by itself, with another padding: more, and no zeros."""
    log_p = jax.nn.log_softmax(forward(model, np.pad(sequence, (0, 16 - len(sequence)), constant_values=7)[None])[0])
    return np.take_along_axis(np.asarray(log_p[: len(sequence) - 1]), sequence[1:, None], -1)[:, 0]


@jax.jit
def scores(model, batch):
    answers = score_answers(model, batch)
    return answers.log_probs, answers.lengths, answers.text_means


def test_answers_have_the_log_probability_that_each_has_alone(tiny):
    model, batch = make_model(tiny), make_batch()
    found = scores(model, batch)
    for row in range(3):
        for side in range(2):
            alone = log_probs_alone(model, batch["tokens"][row, side, : LENGTHS[row, side]])
            answer = alone[STARTS[row] - 1 :]
            expected = answer.sum(), len(answer), alone.mean()
            np.testing.assert_allclose([each[row, side] for each in found], expected, rtol=1e-5)


def test_packed_an_answer_is_the_same(tiny):
    model, batch = make_model(tiny), make_batch()
    log_probs, *_ = scores(model, batch)
    row, kept = 2, LENGTHS[2]  # both sequences of a pair in one row
    x = np.concatenate([batch["tokens"][row, side, : kept[side]] for side in range(2)])
    y = np.concatenate(
        [np.where(np.arange(1, n + 1) >= STARTS[row], np.roll(x[at : at + n], -1), -1) for at, n in ((0, 6), (6, 7))]
    )
    y[[5, 12]] = -1
    positions = np.concatenate([np.arange(n) for n in kept])
    losses = jax.jit(next_token.token_losses)(model, x[None], y[None], positions[None])[0]
    np.testing.assert_allclose([-losses[:6].sum(), -losses[6:].sum()], log_probs[row], rtol=1e-5)


@pytest.mark.parametrize("name", [*PAIRS, "kto"])
def test_a_loss_is_its_formula(tiny, name):
    """In numpy, from what the model says of each answer."""
    model, batch = make_model(tiny, name), make_batch(name)
    metrics = jax.jit(OBJECTIVES[name].measure)(model, batch)
    weight = batch["weight"]

    def minus_log_sigmoid(x):
        return np.log1p(np.exp(-np.asarray(x, np.float64)))

    if name == "reward":
        rewards = np.asarray(jax.jit(rewards_of)(model, batch))
        losses = minus_log_sigmoid(rewards[:, 0] - rewards[:, 1] - batch["margin"])
        assert metrics["accuracy"] == ((rewards[:, 0] > rewards[:, 1]).sum(), 3)
    else:
        log_p, lengths, texts = map(np.asarray, scores(model, batch))
        means, ratios = log_p / lengths, log_p - batch.get("reference", 0)
        if name == "kto":
            sigmoid = 1 / (1 + np.exp(-0.1 * ratios))
            losses = np.where(batch["good"], 1 - sigmoid, sigmoid)
        else:
            log_odds = np.log(np.exp(means) / (1 - np.exp(means)))
            losses = {
                "dpo": lambda: minus_log_sigmoid(0.1 * (ratios[:, 0] - ratios[:, 1])),
                "ipo": lambda: ((ratios / lengths) @ [1, -1] - 5) ** 2,
                "simpo": lambda: minus_log_sigmoid(2 * (means[:, 0] - means[:, 1]) - 0.5),
                "orpo": lambda: -texts[:, 0] + 0.1 * minus_log_sigmoid(log_odds[:, 0] - log_odds[:, 1]),
            }[name]()
            assert metrics["chosen_log_prob"][0] == pytest.approx(log_p[:, 0].sum())
            assert metrics["rejected_log_prob"][0] == pytest.approx(log_p[:, 1].sum())
        if name in REFERENCE:
            assert metrics["kl"] == (pytest.approx(-ratios.sum(), rel=1e-5), ratios.size)
            chosen = ratios[batch["good"] > 0] if name == "kto" else ratios[:, 0]
            assert metrics["chosen_drop"] == (pytest.approx(-chosen.sum(), rel=1e-5), len(chosen))
    assert metrics["loss"] == (pytest.approx((weight * losses).sum(), rel=1e-5), weight.sum())
    assert metrics["loss_squared"][0] == pytest.approx((weight * losses**2).sum(), rel=1e-5)


def test_settings_are_those_of_the_formula():
    answers = Answers(*(jnp.array([each]) for each in ([-6.0, -8.0], [2.0, 4.0], [-2.0, -2.0], [-7.0, -7.0])))
    (loss,), rewards = preferences.dpo(answers, beta=0.5, label_smoothing=0.2)
    assert loss == pytest.approx(-0.8 * np.log(1 / (1 + np.exp(-1))) - 0.2 * np.log(1 / (1 + np.exp(1))))
    assert rewards.tolist() == [[0.5, -0.5]]
    assert preferences.ipo(answers, beta=0.25)[0][0] == pytest.approx((0.5 + 0.25 - 2) ** 2)
    assert preferences.simpo(answers, beta=1.0, gamma=1.0)[0][0] == pytest.approx(np.log1p(np.exp(2.0)))


@pytest.mark.parametrize("spread", [0.0, 0.3])
def test_before_the_first_step_the_loss_is_ln_2_and_the_margin_0(tiny, spread):
    """For any weights: those of a new model too."""
    model, batch = spread_model(tiny, spread), make_batch("dpo")
    batch["reference"] = jax.jit(reference_log_probs)(model, batch)
    metrics = jax.jit(OBJECTIVES["dpo"].loss)(model, batch)
    total, count = metrics["loss"]
    assert total / count == pytest.approx(np.log(2), abs=1e-6)
    assert abs(metrics["margin"][0]) < 1e-5 and abs(metrics["kl"][0]) < 1e-4


@pytest.mark.parametrize(
    "name", ["dpo", "kto", "reward", *(pytest.param(name, marks=pytest.mark.slow) for name in ("ipo", "orpo", "simpo"))]
)
def test_parts_of_a_batch_add_up_to_the_whole(tiny, name):
    model, batch = make_model(tiny, name), make_batch(name)
    objective = choose_objective(OBJECTIVES[name].data, name)
    run = jax.jit(functools.partial(loss_and_grads, objective=objective), static_argnames="accumulate")
    whole, parts = run(model, batch), run(model, batch, accumulate=3)
    for a, b in zip(jax.tree.leaves(whole), jax.tree.leaves(parts), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-6 * max(1, np.abs(a).max()))


@pytest.mark.parametrize("name", [*PAIRS, "kto"])
def test_rows_that_fill_up_a_batch_count_for_nothing(tiny, name):
    model, batch = make_model(tiny, name), make_batch(name, B=2)
    filled = {key: np.concatenate([array, np.zeros_like(array[:1])]) for key, array in batch.items()}
    measure = jax.jit(OBJECTIVES[name].measure)
    expected, found = (jax.device_get(measure(model, each)) for each in (batch, filled))
    for name, (total, count) in expected.items():
        assert found[name] == (pytest.approx(total, rel=1e-5, abs=1e-5), count)


def test_both_answers_of_a_pair_have_one_dropout_mask(tiny):
    """So that the difference of two equal answers stays 0."""
    model = make_model(dataclasses.replace(tiny, dropout=0.3))
    batch = make_batch("simpo")
    batch = {name: np.stack([each[:, 0]] * 2, 1) if each.ndim > 1 else each for name, each in batch.items()}
    keys = jax.random.split(jax.random.key(0), 3)
    found = jax.jit(lambda model: score_answers(model, batch, keys).log_probs)(model)
    np.testing.assert_allclose(found[:, 0], found[:, 1], rtol=1e-6)
    assert not np.allclose(found, scores(model, batch)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", PAIRS)
def test_a_step_takes_the_memory_of_supervised_training_on_the_same_tokens(name):
    """By XLA's plan: no second model, and no logits of all tokens."""
    config, i32, f32 = TrainConfig.of(B=4, T=64, n_layer=2, n_head=2, n_embd=128), "int32", "float32"
    pairs = {"tokens": ((4, 2, 64), i32), "start": ((4,), i32), "last": ((4, 2), i32), "reference": ((4, 2), f32)}
    pairs |= dict.fromkeys(("margin", "weight"), ((4,), f32))
    if name not in REFERENCE:
        del pairs["reference"]
    texts = dict.fromkeys(("tokens", "targets", "positions"), ((8, 64), i32))

    def plan(kind, batch, objective="auto"):
        trainer = build_trainer(config, objective=choose_objective(kind, objective))
        shapes = {name: jax.ShapeDtypeStruct(*each, sharding=trainer.sharding) for name, each in batch.items()}
        found = trainer.step.lower(trainer.shapes, shapes, trainer.frozen).compile().memory_analysis()
        return found.argument_size_in_bytes + found.temp_size_in_bytes

    assert plan("preferences", pairs, name) <= 1.05 * plan("completions", texts)


# ---- The optimum that is known: one prompt, V answers of one token, all pairs in the proportion that rewards give them

V, BETA = 16, 0.5
CONFIG = GPT2Config(vocab_size=V, block_size=2, n_layer=1, n_head=2, n_embd=32)


def all_pairs(rewards):
    """Each pair of answers both ways, with the probability of that judgment for its weight (Bradley and Terry)."""
    a, b = (each.ravel() for each in np.meshgrid(*[np.arange(V, dtype=np.int32)] * 2, indexing="ij"))
    a, b = a[a != b], b[a != b]
    tokens = np.stack([np.zeros((len(a), 2), np.int32), np.stack([a, b], 1)], -1)
    batch = {"tokens": tokens, "start": np.ones(len(a), np.int32), "last": np.ones((len(a), 2), np.int32)}
    weight = 1 / (1 + np.exp(rewards[b] - rewards[a]))
    return batch | {"margin": np.zeros(len(a), np.float32), "weight": weight.astype(np.float32)}


def optimum(name, batch, steps=400, **settings):
    """The model before and after so many steps of Adam."""
    objective = choose_objective("preferences", name, settings=settings)
    model = new_model(dataclasses.replace(CONFIG, n_labels=len(objective.labels)), jax.random.key(0))
    model = jax.tree.map(lambda leaf: 3 * leaf, model)
    if objective.reference:
        batch = batch | {"reference": np.asarray(reference_log_probs(model, batch))}
    tx = optax.adam(optax.cosine_decay_schedule(1e-2, steps))
    state = init_state_from(model, tx=tx)
    step = functools.partial(train_step, objective=objective, tx=tx)
    state = jax.jit(lambda state: jax.lax.fori_loop(0, steps, lambda _, state: step(state, batch)[0], state))(state)
    return model, state.model


def log_policy(model):
    return np.asarray(jax.nn.log_softmax(model(np.zeros((1, 1), np.int32))[0, 0]), np.float64)


@pytest.mark.slow
def test_dpo_finds_the_policy_that_the_rewards_ask_for():
    rewards = np.random.default_rng(0).normal(size=V)
    before, after = map(log_policy, optimum("dpo", all_pairs(rewards), beta=BETA))
    wanted = before + rewards / BETA
    wanted -= np.log(np.exp(wanted).sum())
    assert (np.exp(before) * (before - wanted)).sum() > 0.5  # it was far away
    assert abs((np.exp(after) * (after - wanted)).sum()) < 0.01  # nats


@pytest.mark.slow
def test_a_reward_model_finds_the_rewards_but_for_a_constant():
    rewards = np.random.default_rng(0).normal(size=V)
    _, model = optimum("reward", all_pairs(rewards))
    batch = {"tokens": np.stack([np.zeros(V, np.int32), np.arange(V, dtype=np.int32)], 1)}
    batch |= {"start": np.ones(V, np.int32), "last": np.ones(V, np.int32)}
    found = np.asarray(rewards_of(model, batch))
    np.testing.assert_allclose(found - found.mean(), rewards - rewards.mean(), atol=0.05)


@pytest.mark.slow
def test_ipo_stops_at_the_gap_that_it_asks_for():
    batch = {name: array[:1] for name, array in all_pairs(np.zeros(V)).items()}
    before, after = map(log_policy, optimum("ipo", batch, beta=0.4))
    a, b = batch["tokens"][0, :, 1]
    gap = (after - before)[a] - (after - before)[b]
    assert gap == pytest.approx(1 / (2 * 0.4), rel=0.01)


# ---- What does not fit


@pytest.mark.parametrize(
    "choice, message",
    [
        (
            ("preferences",),
            "the data are preferences: say what to learn from them, with --objective dpo, ipo, or",
        ),
        (("ratings", "dpo"), "--objective dpo learns from preferences, and the data are ratings, for kto"),
        (("preferences", "dpo", (), 2), "--objective dpo: preferences with --predict-tokens 2 takes none of our"),
        (
            ("preferences", "dpo", (), 1, {"gamma": 1.0}),
            "--gamma 1: --objective dpo has --beta, --label-smoothing; leave it out",
        ),
        (
            ("text", "auto", (), 1, {"label_smoothing": 0.1}),
            "--label-smoothing 0.1: --objective next_token has no such",
        ),
    ],
)
def test_an_objective_that_does_not_fit_is_refused(choice, message):
    with pytest.raises(UsageError) as error:
        choose_objective(*choice)
    assert message in str(error.value)
