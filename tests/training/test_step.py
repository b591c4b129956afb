import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.objectives import next_token
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer, updates_done
from jaxgpt.training.step import (
    FrozenInputs,
    TrainState,
    loss_and_grads,
    sequence_keys,
    train_step,
)
from tests.support import models
from tests.support.losses import NEXT_TOKEN, mean_loss, objective_of

CONFIG = OptimizerConfig(lr=1e-2)
TX = make_optimizer(CONFIG, lr_schedule(CONFIG, 10))


def new_state(config, seed=0):
    return models.new_state(jax.random.key(seed), config=config, tx=TX)


@functools.cache
def compiled_step(objective=NEXT_TOKEN):
    return jax.jit(functools.partial(train_step, objective=objective, tx=TX), donate_argnums=0)


def state_bytes(state):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_the_loss_is_the_cross_entropy_of_each_next_token(tiny, batch):
    state = new_state(tiny)
    logits, y = (
        np.asarray(models.forward(state.model, batch["tokens"]), np.float64),
        np.asarray(batch["targets"]),
    )
    expected = 0.0
    for b in range(y.shape[0]):
        for t in range(y.shape[1]):
            expected += math.log(sum(math.exp(z) for z in logits[b, t])) - logits[b, t, y[b, t]]
    total, count = next_token.loss(state.model, batch)["loss"]
    assert count == y.size
    np.testing.assert_allclose(total, expected, rtol=1e-6)


def test_the_gradient_is_the_slope_of_the_loss(tiny, batch):
    """A step of plain gradient descent moves by the gradient; along it, differences of the loss must give its norm."""
    tx = optax.sgd(1.0)
    model = jax.tree.map(lambda x: 5 * x, new_state(tiny).model)  # away from the flat start
    state = TrainState(jnp.zeros((), jnp.int32), model, tx.init(model))
    after, metrics = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx))(state, batch)
    gradient = jax.tree.map(jnp.subtract, model, after.model)
    norm = math.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)

    def loss_at(distance):
        return float(loss(jax.tree.map(lambda x, g: x + distance / norm * g, model, gradient), batch))

    loss = jax.jit(mean_loss)
    # at this distance the rounding of the loss and the third derivative are both about 2e-4 of the norm
    np.testing.assert_allclose((loss_at(2e-4) - loss_at(-2e-4)) / 4e-4, norm, rtol=1e-3)


def test_one_batch_is_learnt_by_heart(tiny, batch):
    state, step, losses = new_state(tiny), compiled_step(), []
    for _ in range(60):
        state, metrics = step(state, batch)
        losses.append(float(metrics["loss"]))
    assert abs(losses[0] / math.log(tiny.vocab_size) - 1) < 0.02
    assert losses[-1] < 0.1
    assert int(state.step) == 60


def test_it_compiles_once(tiny, batch):
    traces = []

    def counted(model, batch):
        traces.append(batch)
        return next_token.loss(model, batch)["loss"]

    state, step = new_state(tiny), compiled_step(objective_of(counted))
    for _ in range(3):
        state, _ = step(state, batch)
    restored = jax.tree.map(jnp.array, state)  # what a checkpoint gives back: other arrays, the same structure
    step(restored, batch)
    assert len(traces) == 1


def test_the_state_is_donated(tiny, batch):
    state, step = new_state(tiny), compiled_step()
    memory = step.lower(state, batch).compile().memory_analysis()
    assert memory.alias_size_in_bytes >= state_bytes(state)
    after, _ = step(state, batch)
    assert all(leaf.is_deleted() for leaf in jax.tree.leaves(state))
    assert not any(leaf.is_deleted() for leaf in jax.tree.leaves(after))


def test_nothing_moves_to_the_device_by_itself(tiny, batch):
    state, step = new_state(tiny), compiled_step()
    host = jax.device_get(batch)
    with jax.transfer_guard("disallow"):
        state, _ = step(state, jax.device_put(host))
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            step(state, host)


def test_is_pure(tiny, batch):
    once, again = (compiled_step()(new_state(tiny), batch) for _ in range(2))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)


def test_an_accumulated_step_is_that_of_the_whole_batch(tiny):
    numbers = np.random.default_rng(0)
    batch = {name: jnp.asarray(numbers.integers(0, 61, (4, 12), dtype=np.int32)) for name in ("tokens", "targets")}
    metrics, grads = jax.jit(functools.partial(loss_and_grads, objective=NEXT_TOKEN))(new_state(tiny).model, batch)
    whole, _ = metrics["loss"]
    of_parts = jax.jit(functools.partial(loss_and_grads, objective=NEXT_TOKEN, accumulate=4))
    metrics, summed = of_parts(new_state(tiny).model, batch)
    total, count = metrics["loss"]
    assert count == 48
    np.testing.assert_allclose(total / count, whole / count, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(summed), jax.tree.leaves(grads), strict=True):
        np.testing.assert_allclose(a / count, b / count, atol=1e-6)


def test_parts_with_unequal_counts_weigh_what_they_count(tiny):
    """As where some tokens have no loss: the mean over all tokens is not the mean of the parts' means."""

    def masked(model, batch):
        counted = batch["tokens"] < 20
        total, _ = next_token.loss(model, batch | {"targets": jnp.where(counted, batch["targets"], -1)})["loss"]
        return total, counted.sum().astype(jnp.float32)

    numbers = np.random.default_rng(1)
    batch = {name: jnp.asarray(numbers.integers(0, 61, (4, 12), dtype=np.int32)) for name in ("tokens", "targets")}
    step = functools.partial(train_step, objective=objective_of(masked), tx=TX)
    once, parts = (
        jax.jit(functools.partial(step, accumulate=accumulate))(new_state(tiny), batch)[1] for accumulate in (1, 4)
    )
    np.testing.assert_allclose([parts["loss"], parts["grad_norm"]], [once["loss"], once["grad_norm"]], rtol=1e-6)


@pytest.mark.parametrize(
    "of, bad, clip, optimizer",
    [
        ("loss", jnp.nan, 1.0, "adamw"),
        ("loss", jnp.inf, 0.0, "muon"),
        ("gradient", jnp.nan, 0.0, "adamw"),
        ("gradient", jnp.inf, 1.0, "adamw"),
    ],
)
def test_a_step_that_is_not_finite_changes_nothing_but_the_number_of_steps(tiny, batch, of, bad, clip, optimizer):
    config = OptimizerConfig(lr=1e-2, warmup_ratio=0.5, grad_clip=clip, optimizer=optimizer)
    tx = make_optimizer(config, lr_schedule(config, 10))

    def spoilt(model, batch):
        total, count = next_token.loss(model, batch)["loss"]
        scale = model.ln_f.bias[...][0]
        return total + batch["spoil"] * (1.0 if of == "loss" else scale), count  # the bias is 0 at first, not its slope

    step = jax.jit(functools.partial(train_step, objective=objective_of(spoilt), tx=tx))
    state = models.new_state(jax.random.key(0), config=tiny, tx=tx)
    if of == "loss":
        state, _ = step(state, batch | {"spoil": jnp.float32(0)})
    after, metrics = step(state, batch | {"spoil": jnp.float32(bad)})
    assert not math.isfinite(metrics["loss"] if of == "loss" else metrics["grad_norm"])
    assert jax.tree.all(jax.tree.map(np.array_equal, after, dataclasses.replace(state, step=state.step + 1)))
    assert updates_done(after.opt_state) == updates_done(state.opt_state) == after.step - 1
    after, _ = step(after, batch | {"spoil": jnp.float32(bad)})
    good, metrics = step(after, batch | {"spoil": jnp.float32(0)})
    without, _ = step(state, batch | {"spoil": jnp.float32(0)})  # a run that never saw the two
    assert math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
    assert jax.tree.all(jax.tree.map(np.array_equal, good, dataclasses.replace(without, step=good.step)))


def test_adam_is_optaxs_to_the_bit(tiny, batch):
    """Moments, counters and parameters, over steps of changing gradients."""
    state, theirs = new_state(tiny), optax.adamw(lr_schedule(CONFIG, 10), weight_decay=0.01)
    model, opt_state = state.model, theirs.init(state.model)
    assert jax.tree.structure(opt_state) == jax.tree.structure(state.opt_state)

    @jax.jit
    def step(model, opt_state, grads):
        updates, opt_state = theirs.update(grads, opt_state, model)
        return optax.apply_updates(model, updates), opt_state

    @jax.jit
    def ours(model, opt_state, grads):
        updates, opt_state = TX.update(grads, opt_state, model)
        return optax.apply_updates(model, updates), opt_state

    mine = (state.model, state.opt_state)
    for seed in range(3):
        grads = jax.tree.map(lambda x, s=seed: jax.random.normal(jax.random.key(s), x.shape), state.model)
        (model, opt_state), mine = step(model, opt_state, grads), ours(*mine, grads)
    for a, b in zip(jax.tree.leaves((model, opt_state)), jax.tree.leaves(mine), strict=True):
        assert np.array_equal(a, b)


@pytest.mark.parametrize("accumulate", [pytest.param(1, marks=pytest.mark.slow), 2])
def test_dropout_is_of_the_seed_the_step_and_the_sequence(tiny, batch, accumulate):
    """Each sequence alone, with its own key, gives what the batch gives; another step or seed gives something else."""
    config = dataclasses.replace(tiny, dropout=0.3, n_layer=1)
    tx = make_optimizer(OptimizerConfig(), lambda step: 1e-3)
    state = models.new_state(jax.random.key(0), config=config, tx=tx)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx, accumulate=accumulate))

    def loss(number, seed):
        frozen = FrozenInputs(key=jax.random.key(seed))
        return float(step(dataclasses.replace(state, step=jnp.int32(number)), batch, frozen)[1]["loss"])

    keys = sequence_keys(jax.random.key(5), jnp.int32(3), jnp.arange(2))
    rows = [jax.tree.map(lambda array, i=i: array[i : i + 1], (batch, keys)) for i in range(2)]
    alone = [jax.jit(next_token.loss)(state.model, *row)["loss"][0] for row in rows]
    np.testing.assert_allclose(loss(3, 5), sum(alone) / batch["targets"].size, rtol=1e-6)
    assert len({loss(3, 5), loss(4, 5), loss(3, 6), float(jax.jit(mean_loss)(state.model, batch))}) == 4


def test_updates_are_as_many_steps_that_count_as_one(tiny, batch):
    """The same learning rate and dropout, which are of the step; metrics are means."""
    config = dataclasses.replace(tiny, dropout=0.2, n_layer=1)
    tx = make_optimizer(OptimizerConfig(lr=1e-2), lambda count: 1e-2)
    step = functools.partial(train_step, objective=NEXT_TOKEN, tx=tx, accumulate=2)
    frozen, once = FrozenInputs(key=jax.random.key(1)), jax.jit(step)
    state = dataclasses.replace(models.new_state(jax.random.key(0), config=config, tx=tx), step=jnp.int32(5))
    found, metrics = jax.jit(functools.partial(step, updates=3))(state, batch, frozen)
    single = []
    for _ in range(3):
        state, numbers = once(dataclasses.replace(state, step=jnp.int32(5)), batch, frozen)
        single.append(numbers)
    assert found.step == 6
    assert jax.tree.all(jax.tree.map(np.array_equal, found, dataclasses.replace(state, step=found.step)))
    for name, value in metrics.items():
        np.testing.assert_allclose(value, np.mean([numbers[name] for numbers in single]), rtol=1e-6)
