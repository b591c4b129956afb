"""DP-SGD against a loop over rows in float64, and against what one row can do to a step."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from scipy import stats

from jaxgpt.data.poisson import Poisson, draw, row_units
from jaxgpt.data.text import Text
from jaxgpt.models.base import architecture, shapes
from jaxgpt.models.lora import combine, partition, with_base_weights
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.objectives.base import Objective
from jaxgpt.runtime.mesh import batch_sharding, make_mesh, sharded_loss_and_grads, shardings, with_shardings
from jaxgpt.training.privacy import add_noise, clipped_loss_and_grads, make_noise
from jaxgpt.training.step import FrozenInputs, TrainState, train_step
from tests.support import models
from tests.support.losses import NEXT_TOKEN, mean_loss

SLOTS = [0, 1, 2, 3, 4, -1, -1, -1]  # five of eight rows were drawn


@pytest.fixture
def rows():
    """Eight rows of 12 tokens for `tiny`."""
    ids = np.random.default_rng(3).integers(0, 61, (8, 13), dtype=np.int32)
    return {"tokens": ids[:, :-1], "targets": ids[:, 1:], "slot": np.array(SLOTS, np.int32)}


def brute_force(model, batch, clip, base=None):
    """The sum of clipped gradients, row by row, from logits and in float64 but for the gradients themselves."""

    @jax.jit
    @jax.grad
    def gradient(model, x, y):
        logits = combine(model, base)(x[None])[0]
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    total, norms = None, []
    for x, y, slot in zip(batch["tokens"], batch["targets"], batch["slot"], strict=True):
        if slot >= 0:
            grads = [np.asarray(leaf, np.float64) for leaf in jax.tree.leaves(gradient(model, x, y))]
            norms.append(np.sqrt(sum((leaf**2).sum() for leaf in grads)))
            scaled = [min(1, clip / norms[-1]) * leaf for leaf in grads]
            total = scaled if total is None else [a + b for a, b in zip(total, scaled, strict=True)]
    return total, norms


def clipped_sum(model, batch, clip, microbatch=1, objective=NEXT_TOKEN, base=None):
    run = functools.partial(clipped_loss_and_grads, objective=objective, clip=clip, microbatch=microbatch, base=base)
    return jax.jit(run)(model, batch)


def norm_of(leaves):
    return np.sqrt(sum((np.asarray(leaf, np.float64) ** 2).sum() for leaf in leaves))


CHANGES = {"tied": {}, "untied": {"untied_head": True}, "lora": {"lora": 2}}


@pytest.mark.parametrize("change, microbatch", [("tied", 1), ("tied", 4), ("untied", 2), ("lora", 1), ("lora", 8)])
def test_the_sum_is_that_of_a_loop_over_the_rows(tiny, rows, change, microbatch):
    change = CHANGES[change] | {"n_layer": 2}
    model = models.spread_model(dataclasses.replace(tiny, **change))
    trained, base = partition(model)
    _, norms = brute_force(trained, rows, 1.0, base)
    clip = float(np.mean(sorted(norms)[2:4]))  # two are longer
    expected, _ = brute_force(trained, rows, clip, base)
    metrics, grads = clipped_sum(trained, rows, clip, microbatch, base=base)
    difference = [a - b for a, b in zip(jax.tree.leaves(grads), expected, strict=True)]
    assert norm_of(difference) < 1e-6 * clip * 5
    assert metrics["clipped"] == (2, 5)
    losses = optax.softmax_cross_entropy_with_integer_labels(model(rows["tokens"][:5]), rows["targets"][:5])
    assert metrics["loss"][0] / metrics["loss"][1] == pytest.approx(float(losses.mean()), rel=1e-5)


def test_a_tied_embedding_is_one_parameter(tiny, rows):
    """Its gradient is the sum of both uses, and that is what is clipped: computed here by two tables that are alike."""
    tiny = dataclasses.replace(tiny, n_layer=1)
    untied = models.spread_model(dataclasses.replace(tiny, untied_head=True))
    untied.lm_head.embedding = untied.wte.embedding
    tied = with_base_weights(shapes(tiny), untied)
    clip, expected, gradient = 0.05, 0, jax.jit(jax.grad(mean_loss))
    for row in range(5):
        one = {name: array[row : row + 1] for name, array in rows.items() if name != "slot"}
        grads = gradient(untied, one)
        table = grads.wte.embedding[...] + grads.lm_head.embedding[...]
        rest = [leaf for leaf in jax.tree.leaves(grads) if leaf.shape != table.shape]
        assert len(rest) == len(jax.tree.leaves(grads)) - 2
        norm = norm_of([*rest, table])
        assert norm > clip and norm != pytest.approx(norm_of(jax.tree.leaves(grads)), rel=1e-5)
        expected += clip / norm * np.asarray(table, np.float64)
    _, grads = clipped_sum(tied, rows, clip)
    assert norm_of([grads.wte.embedding[...] - expected]) < 1e-6 * clip * 5


def scaled_loss(model, batch, keys):
    """The loss of each row times its factor."""
    total, count = NEXT_TOKEN.loss(model, batch, keys)["loss"]
    return {"loss": (batch["factor"].sum() * total, count)}


@pytest.mark.parametrize("microbatch", [1, 4])
def test_no_row_moves_the_sum_by_more_than_the_clip(tiny, rows, microbatch):
    """Whatever its loss is, a number or none."""
    model, clip = models.spread_model(dataclasses.replace(tiny, n_layer=1)), 0.05
    run = jax.jit(
        functools.partial(
            clipped_loss_and_grads, objective=Objective("x", "text", scaled_loss), clip=clip, microbatch=microbatch
        )
    )
    order = [0, 1, 3, 4, 2, 5, 6, 7]  # without row 2 the others come first
    factor = np.ones(8, np.float32)
    without = {name: array[order] for name, array in (rows | {"factor": factor}).items()}
    without["slot"] = np.array([0, 1, 2, 3, -1, -1, -1, -1], np.int32)
    _, expected = run(model, without)
    for value, most in ((1, clip), (-1e6, clip), (1e12, clip), (0, 0), (1e30, 0), (np.nan, 0), (np.inf, 0)):
        factor[2] = value
        metrics, grads = run(model, rows | {"factor": factor})
        moved = norm_of([a - b for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(expected), strict=True)])
        assert moved <= most * (1 + 1e-5) + 1e-7, value
        assert moved >= 0.9 * most and np.isfinite(metrics["loss"][0]) and metrics["clipped"][1] == 5, value
        assert metrics["clipped"][0] == (4 if value == 0 else 5)


@pytest.mark.parametrize("name", ["completion", "classification", "multi_token"])
def test_a_row_has_the_mean_of_its_own_tokens(tiny, name):
    """In any objective: with a clip that nothing reaches, the sum is that of single rows' means."""
    tiny = dataclasses.replace(tiny, n_layer=1)
    objective, rng = OBJECTIVES[name], np.random.default_rng(0)
    tokens = rng.integers(0, 61, (4, 12), dtype=np.int32)
    targets = np.where(rng.random((4, 12)) < 0.5, rng.integers(0, 61, (4, 12)), -1).astype(np.int32)
    targets[:, 0] = 1
    batch = {"tokens": tokens, "targets": targets, "positions": np.tile(np.arange(12, dtype=np.int32), (4, 1))}
    if name == "classification":
        tiny, batch = (
            dataclasses.replace(tiny, n_labels=3),
            {"tokens": tokens, "last": np.array([3, 11, 5, 7], np.int32)},
        )
        batch["labels"] = np.array([0, 2, 1, 1], np.int32)
    if name == "multi_token":
        tiny = dataclasses.replace(tiny, n_layer=3, predict_tokens=2)
    model = models.spread_model(tiny)

    def loss(model, row):
        total, count = objective.loss(model, row, None)[objective.minimize]
        return total / count

    gradient = jax.jit(jax.grad(loss))
    of_rows = [gradient(model, {key: value[i : i + 1] for key, value in batch.items()}) for i in range(4)]
    expected = jax.tree.leaves(jax.tree.map(lambda *each: sum(each), *of_rows))
    slots = {"slot": np.arange(4, dtype=np.int32)}
    metrics, grads = clipped_sum(model, batch | slots, 1e3, 2, objective)
    for a, b in zip(jax.tree.leaves(grads), expected, strict=True):
        np.testing.assert_allclose(a, b, atol=2e-6)
    for key, (total, count) in jax.jit(objective.loss)(model, batch, None).items():
        np.testing.assert_allclose(metrics[key][0], total, rtol=1e-5)
        assert metrics[key][1] == count


# ---- Noise


def noise(deviation, expected=1.0, words=(1, 2)):
    return make_noise(jnp.array(words, jnp.uint32), jnp.float32(deviation), jnp.float32(expected))


def test_noise_is_normal_with_its_deviation_and_new_in_each_step():
    zero = {"a": jnp.zeros((300, 400)), "b": jnp.zeros(5000), "c": jnp.zeros((300, 400))}
    add = jax.jit(add_noise)
    first, later, other = add(zero, noise(0.7), 3), add(zero, noise(0.7), 4), add(zero, noise(0.7, words=(1, 3)), 3)
    draws = np.concatenate([leaf.ravel() for leaf in jax.tree.leaves(first)])
    assert len(draws) > 1e5 and draws.std() == pytest.approx(0.7, rel=0.02) and abs(draws.mean()) < 0.7 * 4 / 495
    assert stats.kstest(draws / 0.7, "norm").pvalue > 0.01
    for another in (later["a"], other["a"], first["c"]):
        assert abs(np.corrcoef(first["a"].ravel(), another.ravel())[0, 1]) < 0.015
    assert all(np.array_equal(a, b) for a, b in zip(add(zero, noise(0.7), 3).values(), first.values(), strict=True))
    moved = add({"a": jnp.full(4, 5.0)}, noise(0.7), 3)["a"]
    assert np.allclose(moved - 5, add({"a": jnp.zeros(4)}, noise(0.7), 3)["a"], atol=1e-6)


TX = optax.sgd(1.0)


def step_on(mesh, model, batch, noise, key=None, clip=0.05, microbatch=1):
    """A step of plain gradient descent on a mesh: the models after it, as numpy, and the metrics."""
    rules = architecture(model.config).SHARDING_RULES
    compute = functools.partial(clipped_loss_and_grads, clip=clip, microbatch=microbatch)
    compute = sharded_loss_and_grads(compute, mesh, "float32", rules)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=TX, loss_and_grads=compute))
    state = TrainState(jnp.int32(7), model, TX.init(model))
    placed = jax.device_put(state, shardings(with_shardings(state, mesh, rules)))
    frozen = FrozenInputs(key=key, noise=noise)
    after, metrics = step(placed, jax.device_put(batch, batch_sharding(mesh)), jax.device_put(frozen))
    return jax.device_get((after.model, metrics))


@pytest.mark.parametrize(
    "axes",
    [{"data": 8}, pytest.param({"data": 2, "fsdp": 2}, marks=pytest.mark.slow)],
    ids=str,
)
def test_a_step_and_its_noise_are_the_same_on_any_mesh(eight_devices, tiny, axes):
    """Rows lie elsewhere, with dropout that is theirs; the noise is added once, not by each device."""
    config = dataclasses.replace(tiny, n_layer=1, dropout=0.3)
    model, key = models.spread_model(config), jax.random.key(4)
    text = Text("text", np.random.default_rng(0).integers(0, 61, 900).astype(np.uint16), "f", B=8, T=12)
    results = []
    for mesh in (make_mesh({}, eight_devices), make_mesh(axes, eight_devices)):
        data = Poisson(text, bytes(16), row_units(text), 9, mesh.size, 2, B=8)
        batch, _ = data.batch(3 * 8 * 12)
        results.append(step_on(mesh, model, batch, noise(0.01, 8.0), key, microbatch=2))
    (one, metrics), (many, on_mesh) = results
    for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(many), strict=True):
        np.testing.assert_allclose(a, b, atol=2e-7)
    assert metrics["drawn"] == on_mesh["drawn"] == len(draw(bytes(16), 3, 69, 8 / 69)[0])
    assert on_mesh["loss"] == pytest.approx(float(metrics["loss"]), rel=1e-6)


def test_the_sum_is_divided_by_the_expected_number_of_rows(tiny, rows):
    model = models.spread_model(dataclasses.replace(tiny, n_layer=1))
    after, metrics = step_on(make_mesh({}, jax.devices()), model, rows, noise(0.0, 40.0))
    _, grads = clipped_sum(model, rows, 0.05)
    for before, a, g in zip(*map(jax.tree.leaves, (model, after, grads)), strict=True):
        np.testing.assert_allclose(before - a, g / 40, atol=1e-7)
    assert metrics["grad_norm"] == pytest.approx(norm_of(jax.tree.leaves(grads)) / 40, rel=1e-5)
    assert metrics["drawn"] == 5


def test_a_step_that_draws_nothing_is_a_step_of_noise(tiny, rows):
    """And one whose rows have no numbers: neither is skipped, which would tell of the data."""
    model, mesh = models.spread_model(dataclasses.replace(tiny, n_layer=1)), make_mesh({}, jax.devices())
    empty, metrics = step_on(mesh, model, rows | {"slot": np.full(8, -1, np.int32)}, noise(1.0, 10.0))
    assert (metrics["loss"], metrics["drawn"]) == (0, 0)
    expected = add_noise(jax.tree.map(jnp.zeros_like, model), noise(1.0), jnp.int32(7))
    for before, a, g in zip(*map(jax.tree.leaves, (model, empty, expected)), strict=True):
        np.testing.assert_allclose(before - a, g / 10, atol=1e-6)


def test_parameters_that_are_no_numbers_show(tiny, rows):
    """They are public by then."""
    model = models.spread_model(dataclasses.replace(tiny, n_layer=1))
    model = jax.tree.map(lambda leaf: leaf.at[(0,) * leaf.ndim].set(jnp.nan), model)
    _, metrics = step_on(make_mesh({}, jax.devices()), model, rows, noise(1.0, 10.0))
    assert np.isnan(metrics["loss"])
