import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.training.optimizer import lr_schedule, make_optimizer
from jaxgpt.training.step import TrainState, eval_step, init_state, loss_fn, sums, train_step

TX = make_optimizer(lr_schedule(1e-2, 10))


def new_state(config, seed=0):
    return jax.jit(functools.partial(init_state, config=config, tx=TX))(jax.random.key(seed))


def compiled_step(loss_fn=loss_fn):
    return jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=TX), donate_argnums=0)


def state_bytes(state):
    return sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(state))


def test_the_loss_is_the_cross_entropy_of_each_next_token(tiny, batch):
    state = new_state(tiny)
    logits, y = np.asarray(state.model(batch[0]), np.float64), np.asarray(batch[1])
    expected = 0.0
    for b in range(y.shape[0]):
        for t in range(y.shape[1]):
            expected += math.log(sum(math.exp(z) for z in logits[b, t])) - logits[b, t, y[b, t]]
    total, count = loss_fn(state.model, *batch)
    assert count == y.size
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    np.testing.assert_allclose(eval_step(state.model, batch, loss_fn=loss_fn), expected / y.size, rtol=1e-6)


def test_the_gradient_is_the_slope_of_the_loss(tiny, batch):
    """A step of plain gradient descent moves by the gradient; along it, differences of the loss must give its norm."""
    tx = optax.sgd(1.0)
    model = jax.tree.map(lambda x: 5 * x, new_state(tiny).model)  # away from the flat start
    state = TrainState(jnp.zeros((), jnp.int32), model, tx.init(model))
    after, metrics = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx))(state, batch)
    gradient = jax.tree.map(jnp.subtract, model, after.model)
    norm = math.sqrt(sum(float((g**2).sum()) for g in jax.tree.leaves(gradient)))
    np.testing.assert_allclose(metrics["grad_norm"], norm, rtol=1e-5)

    def loss_at(distance):
        return float(loss(jax.tree.map(lambda x, g: x + distance / norm * g, model, gradient), batch))

    loss = jax.jit(functools.partial(eval_step, loss_fn=loss_fn))
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

    def counted(model, x, y):
        traces.append(x.shape)
        return loss_fn(model, x, y)

    state, step = new_state(tiny), compiled_step(counted)
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
    x, y = (np.asarray(array) for array in batch)
    with jax.transfer_guard("disallow"):
        state, _ = step(state, jax.device_put((x, y)))
        with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
            step(state, (x, y))


def test_is_pure(tiny, batch):
    once, again = (compiled_step()(new_state(tiny), batch) for _ in range(2))
    for a, b in zip(jax.tree.leaves(once), jax.tree.leaves(again), strict=True):
        assert np.array_equal(a, b)


def test_an_accumulated_step_is_that_of_the_whole_batch(tiny):
    numbers = np.random.default_rng(0)
    batch = tuple(jnp.asarray(numbers.integers(0, 61, (4, 12), dtype=np.int32)) for _ in range(2))
    (whole, _), grads = sums(new_state(tiny).model, batch, loss_fn)
    for parts in (2, 4):
        (total, count), summed = jax.jit(functools.partial(sums, loss_fn=loss_fn, accumulate=parts))(
            new_state(tiny).model, batch
        )
        assert count == 48
        np.testing.assert_allclose(total / count, whole / count, rtol=1e-6)
        for a, b in zip(jax.tree.leaves(summed), jax.tree.leaves(grads), strict=True):
            np.testing.assert_allclose(a / count, b / count, atol=1e-6)


def test_parts_with_unequal_counts_weigh_what_they_count(tiny):
    """As where some tokens have no loss: the mean over all tokens is not the mean of the parts' means."""

    def masked(model, x, y):
        total, _ = loss_fn(model, x, jnp.where(x < 20, y, -1))
        return total, (x < 20).sum().astype(jnp.float32)

    numbers = np.random.default_rng(1)
    batch = tuple(jnp.asarray(numbers.integers(0, 61, (4, 12), dtype=np.int32)) for _ in range(2))
    step = functools.partial(train_step, loss_fn=masked, tx=TX)
    once, parts = (
        jax.jit(functools.partial(step, accumulate=accumulate))(new_state(tiny), batch)[1] for accumulate in (1, 4)
    )
    np.testing.assert_allclose([parts["loss"], parts["grad_norm"]], [once["loss"], once["grad_norm"]], rtol=1e-6)


@pytest.mark.parametrize("clip", [0.0, 1.0])
@pytest.mark.parametrize("bad", [jnp.nan, jnp.inf])
@pytest.mark.parametrize("of", ["loss", "gradient"])
def test_a_step_that_is_not_finite_changes_nothing_but_the_counters(tiny, batch, of, bad, clip):
    tx = make_optimizer(lr_schedule(1e-2, 10, warmup_ratio=0.5), grad_clip=clip)

    def spoilt(model, x, y, spoil):
        total, count = loss_fn(model, x, y)
        scale = model.ln_f.bias[...][0]
        return total + spoil * (1.0 if of == "loss" else scale), count  # the bias is 0 at first, its slope is not

    step = jax.jit(functools.partial(train_step, loss_fn=spoilt, tx=tx))
    state = jax.jit(functools.partial(init_state, config=tiny, tx=tx))(jax.random.key(0))
    if of == "loss":
        state, _ = step(state, (*batch, jnp.float32(0)))
    after, metrics = step(state, (*batch, jnp.float32(bad)))
    assert not math.isfinite(metrics["loss"] if of == "loss" else metrics["grad_norm"])
    floats = [leaf.dtype == jnp.float32 for leaf in jax.tree.leaves(state)]
    for old, new, is_float in zip(jax.tree.leaves(state), jax.tree.leaves(after), floats, strict=True):
        assert np.array_equal(new, old if is_float else old + 1)
    good, metrics = step(after, (*batch, jnp.float32(0)))
    assert math.isfinite(metrics["loss"]) and math.isfinite(metrics["grad_norm"])
    assert all(np.isfinite(leaf).all() for leaf in jax.tree.leaves(good))


def test_adam_is_optaxs_to_the_bit(tiny, batch):
    """Moments, counters and parameters, over steps of changing gradients."""
    state, theirs = new_state(tiny), optax.adamw(lr_schedule(1e-2, 10), weight_decay=0.01)
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
