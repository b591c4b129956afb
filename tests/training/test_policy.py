"""A run's policy: what it makes of transcripts, and what training on it gives, in an environment of a few letters."""

import dataclasses
import functools

import jax
import numpy as np
import pytest

from jaxgpt.errors import DataError
from jaxgpt.objectives import choose_objective
from jaxgpt.objectives.policy import CREDITS
from jaxgpt.runtime.mesh import make_mesh
from jaxgpt.training import policy as training_policy
from jaxgpt.training import setup
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.policy import Policy, _row_keys
from jaxgpt.training.preset import Preset
from jaxgpt.training.rollouts import Rollouts
from jaxgpt.training.step import FrozenInputs
from tests.support.models import forward
from tests.support.talk import TOKENIZER, Talk

B, T, G, ANSWER = 8, 16, 4, 3
SHAPE = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": T, "B": B, "T": T, "vocab_size": TOKENIZER.vocab_size}
RECIPE = TrainConfig.from_preset(Preset(objective="rloo"))  # its optimizer's flags
TALK = Talk(num_levels=3)


@functools.cache
def trainer_of(mesh=None, **flags):
    config = RECIPE.replace(**SHAPE, lr=1e-3, init_from="x" if "lora" in flags else None, **flags)
    return setup.build_trainer(config, mesh, choose_objective("rollouts", "rloo"))


def begin(trainer, name="rloo", talk=TALK):
    """A model of clear preferences, whose optimizer has done nothing; the data, and what a step never changes."""
    state = trainer.init_state(0)
    model = jax.tree.map(lambda leaf, new: jax.device_put(new, leaf.sharding), state.model, draw(state.model))
    frozen = FrozenInputs()
    if trainer.model.lora:
        frozen = FrozenInputs(jax.tree.map(np.asarray, draw(trainer.frozen.base)))
    policy = Policy(trainer, choose_objective("rollouts", name), frozen.base)
    data = Rollouts(dataclasses.replace(talk), TOKENIZER, G, ANSWER, 0, B, T, policy=policy)
    return dataclasses.replace(state, model=model), data, frozen


def draw(tree):
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: rng.normal(0, 0.4, leaf.shape).astype(np.float32), tree)


def train(trainer, state, data, frozen, steps, position=0):
    """The state after so many steps from a position, the next position, and the batches and metrics."""
    batches, metrics = [], []
    for _ in range(steps):
        batch, position = data.batch(position, state.model)
        batches.append(batch)
        state, numbers = trainer.step(state, jax.device_put(batch, trainer.sharding), frozen)
        metrics.append(jax.device_get(numbers))
    return state, position, batches, metrics


def same_bits(one, other):
    return jax.tree.all(jax.tree.map(lambda a, b: np.asarray(a).tobytes() == np.asarray(b).tobytes(), one, other))


# ---- Batches


def test_a_batch_is_what_a_loop_over_the_transcripts_finds():
    trainer = trainer_of()
    state, data, _ = begin(trainer)
    data.policy.reference, seen = state.model, []
    data = dataclasses.replace(data, watch=seen.extend)
    batch, position = data.batch(0, state.model)
    assert position == B * T and len(seen) == B
    levels = [told.level for told in data.environment.started]
    assert levels == [levels[0]] * G + [levels[G]] * G and levels[0] != levels[G]
    every = np.asarray(jax.nn.log_softmax(forward(state.model, batch["tokens"])))
    rewards = np.array([each.reward for each in seen])
    for row, each in enumerate(seen):
        n = len(each.tokens)
        assert batch["tokens"][row, :n].tolist() == each.tokens.tolist() and not batch["tokens"][row, n:].any()
        for column in range(T):
            learned = column + 1 < n and each.learned[column + 1]
            assert batch["targets"][row, column] == (each.tokens[column + 1] if learned else -1)
            value = every[row, column, each.tokens[column + 1]] if learned else 0
            assert abs(batch["old"][row, column] - value) < 1e-5
        assert batch["answer_tokens"][row] == each.learned.sum() and batch["cut"][row] == each.cut
    assert np.array_equal(batch["reference"], batch["old"])  # the same weights
    np.testing.assert_allclose(batch["reward"], rewards, rtol=1e-6)
    assert batch["solved"].tolist() == (rewards >= TALK.best).tolist() and 0 < batch["solved"].sum() < B
    lengths = batch["answer_tokens"].reshape(-1, G)
    assert data.max_tokens == 9
    wanted = CREDITS["rloo"](rewards.reshape(-1, G), lengths, data.max_tokens)
    np.testing.assert_allclose([batch["advantage"], batch["weight"]], np.reshape(wanted, (2, B)), rtol=1e-6)
    means = rewards.reshape(-1, G).mean(1)
    facts = {
        "solved_groups": np.mean([group.all() for group in (rewards >= TALK.best).reshape(-1, G)]),
        "equal_groups": np.mean([len(set(group)) == 1 for group in rewards.reshape(-1, G)]),
        "reward_error": abs(means[0] - means[1]) / 2,  # of two groups
    }
    for name, value in facts.items():
        np.testing.assert_allclose(batch[name], np.full(B, value), rtol=1e-6)
    assert 0 < batch["mismatch"].max() < 1e-5


def test_an_error_of_the_answers_ends_all_processes(monkeypatch):
    """With the line of its own in the one that has it, so that all save the steps before it together."""
    state, data, _ = begin(trainer_of(), talk=dataclasses.replace(TALK, reward=fail))
    agreed = []
    monkeypatch.setattr(training_policy, "all_processes", lambda fine: agreed.append(fine) or False)
    with pytest.raises(DataError, match="prompt 5"):
        data.batch(0, state.model)
    with pytest.raises(DataError, match="another process has an error"):
        dataclasses.replace(data, environment=TALK).batch(0, state.model)
    assert agreed == [False, True]


def fail(level, answers):
    raise DataError("prompt 5: the reward is no number")


def test_a_rows_key_is_of_the_seed_the_position_and_the_row_alone():
    def keys(seed, position, rows):
        found = _row_keys(np.uint32(seed), np.uint32(divmod(position, 2**32)), np.uint32(rows))
        return [tuple(key) for key in np.asarray(found).tolist()]

    eight = keys(0, 512, range(8))
    assert keys(0, 512, range(4)) == eight[:4] and keys(0, 512, range(4, 8)) == eight[4:]
    others = [keys(seed, position, range(8)) for seed in (0, 1) for position in (0, 512, 2**32, 2**32 + 512, 2**62)]
    assert len({key for each in others for key in each}) == 80


# ---- Training


def test_k_steps_and_the_rest_are_all_steps_to_the_bit():
    trainer = trainer_of()
    whole, end, batches, metrics = train(trainer, *begin(trainer), steps=4)
    first, position, *_ = train(trainer, *begin(trainer), steps=2)
    saved = jax.device_get(first)
    _, data, frozen = begin(trainer)  # of another process
    second, last, later, numbers = train(trainer, jax.device_put(saved), data, frozen, 2, position)
    assert last == end and same_bits(later, batches[2:]) and same_bits(numbers, metrics[2:])
    assert same_bits(second, whole)
    assert not same_bits(batches[0]["tokens"], batches[2]["tokens"]) and all(each["grad_norm"] > 0 for each in metrics)


def test_the_reward_rises():
    trainer = trainer_of()
    *_, metrics = train(trainer, *begin(trainer), steps=100)
    rewards = [float(each["reward"]) for each in metrics]
    assert np.mean(rewards[-10:]) > np.mean(rewards[:10]) + 0.1


@pytest.mark.parametrize("name", CREDITS)
def test_equal_rewards_change_no_parameter(name):
    trainer = trainer_of()
    state, data, frozen = begin(trainer, name, Talk(num_levels=3, reward=lambda level, answers: 0.1))
    before = jax.device_get(state.model)
    state, _, _, metrics = train(trainer, state, data, frozen, 2)
    assert same_bits(state.model, before) and state.step == 2
    assert all(each["grad_norm"] == 0 and each["equal_groups"] == 1 for each in metrics)


def test_adapters_alone_are_trained_and_write():
    trainer = trainer_of(lora=2)
    state, data, frozen = begin(trainer)
    before = jax.device_get((state.model, frozen.base))
    state, _, batches, metrics = train(trainer, state, data, frozen, 2)
    assert all(batch["mismatch"].max() < 1e-5 for batch in batches) and metrics[0]["grad_norm"] > 0
    assert not same_bits(state.model, before[0]) and same_bits(frozen.base, before[1])
    without = jax.tree.map(np.zeros_like, before[0])
    other, _ = begin(trainer)[1].batch(0, jax.device_put(without))
    assert not np.array_equal(other["tokens"], batches[0]["tokens"])  # the adapters are part of what writes


@pytest.mark.slow
@pytest.mark.parametrize(
    "axes, flags", [({"fsdp": 2}, {}), ({"data": 4, "fsdp": 2}, {"lora": 2, "updates": 2})], ids=str
)
def test_any_mesh_writes_the_same_and_learns_the_same(axes, flags, eight_devices):
    trainer = trainer_of(**flags)
    *_, batches, metrics = train(trainer, *begin(trainer), steps=3)
    mesh = make_mesh(axes, eight_devices)
    trainer = trainer_of(mesh=mesh, **flags)
    *_, others, numbers = train(trainer, *begin(trainer), steps=3)
    for batch, same in zip(batches, others, strict=True):
        assert np.array_equal(batch["tokens"], same["tokens"]) and np.array_equal(batch["targets"], same["targets"])
        np.testing.assert_allclose(same["old"], batch["old"], atol=1e-5)
        assert np.array_equal(batch["advantage"], same["advantage"]) and same["mismatch"].max() < 1e-5
    for one, many in zip(metrics, numbers, strict=True):
        assert abs(one["loss"] - many["loss"]) < 1e-5 and abs(one["grad_norm"] - many["grad_norm"]) < 1e-4
