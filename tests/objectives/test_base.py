"""What is lost on completions and labels, against sums by hand over single documents."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives.base import (
    completion_loss,
    label_logits,
    label_loss,
    measure_labels,
    measure_tokens,
    objective_of,
)
from jaxgpt.runtime.mesh import sequences
from jaxgpt.runtime.xla import aot
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.setup import training
from jaxgpt.training.step import Fixed, loss_fn, sequence_keys, state_of, sums, train_step

# Two sequences of 12: documents of 5 and 6 tokens and the room left; one of 12. y is below 0 where it is a prompt's.
X = np.random.default_rng(0).integers(1, 61, (2, 12), dtype=np.int32)
POSITIONS = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0], range(12)], np.int32)
Y = np.roll(X, -1, axis=1)
Y[0, [0, 1, 4, 5, 10, 11]] = Y[1, :7] = -1
DOCUMENTS = [(0, slice(0, 5)), (0, slice(5, 11)), (1, slice(0, 12))]


@pytest.fixture
def model(tiny):
    return jax.tree.map(lambda leaf: 4 * leaf, GPT2(tiny, jax.random.key(1)))  # away from the flat start


def test_masked_gradients_are_those_of_a_sum_over_single_tokens(model):
    """The brute force: each learned token alone, after its own document alone, without any masking."""

    def one_by_one(model):
        total = 0.0
        for row, place in DOCUMENTS:
            logits = model(X[None, row, place])[0]
            for t, target in enumerate(Y[row, place]):
                if target >= 0:
                    total = total - jax.nn.log_softmax(logits[t])[target]
        return total

    expected, slope = jax.jit(jax.value_and_grad(one_by_one))(model)
    (total, count), grads = jax.jit(lambda model, batch: sums(model, batch, completion_loss))(model, (X, Y, POSITIONS))
    assert count == (Y >= 0).sum() == 11
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    for found, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(slope), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())  # float32 sums


@pytest.mark.parametrize("change", ["prompt of the other document", "target that is masked"])
def test_nothing_leaks_between_documents(model, change):
    x, y = X.copy(), Y.copy()
    if change == "target that is masked":
        y[0, 0] = -7
    else:
        x[0, :5] = 7
    loss = jax.jit(lambda x, y: completion_loss(model, x[:1], y[:1], POSITIONS[:1])[0])
    y[0, 2:4] = -1  # the first document's own loss does change
    before = Y.copy()
    before[0, 2:4] = -1
    assert loss(x, y) == loss(X, before)


def test_one_document_a_sequence_is_plain_training(model, batch):
    x, y = batch
    positions = np.tile(np.arange(12, dtype=np.int32), (2, 1))
    np.testing.assert_allclose(completion_loss(model, x, y, positions), loss_fn(model, x, y), rtol=1e-6)


def test_measures_are_sums_of_single_losses(model):
    found = jax.jit(measure_tokens)(model, X, Y, POSITIONS)
    losses = []
    for row, place in DOCUMENTS:
        logits = np.asarray(model(X[None, row, place])[0], np.float64)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += [-logp[t, target] for t, target in enumerate(Y[row, place]) if target >= 0]
    expected = {"loss": sum(losses), "squares": sum(loss**2 for loss in losses), "count": 11}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


def test_labels_are_told_by_the_last_token_alone(tiny):
    config = dataclasses.replace(tiny, n_labels=3)
    model = jax.tree.map(lambda leaf: 4 * leaf, GPT2(config, jax.random.key(1)))
    last, label = np.array([4, 11], np.int32), np.array([2, 0], np.int32)
    logits = label_logits(model, X, last)
    for row in range(2):
        alone = model.hidden(X[row : row + 1, : last[row] + 1])[0, -1] @ model.score.kernel[...]
        np.testing.assert_allclose(logits[row], alone, rtol=1e-5)
    logp = np.asarray(jax.nn.log_softmax(logits))
    losses = -logp[[0, 1], label]
    np.testing.assert_allclose(label_loss(model, X, last, label), (losses.sum(), 2), rtol=1e-6)
    found = measure_labels(model, X, last, np.array([2, -1], np.int32))  # the second one is padding
    expected = {"loss": losses[0], "squares": losses[0] ** 2, "count": 1, "correct": logp[0].argmax() == 2}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)
    assert objective_of("labels", 3).n_labels == 3


@pytest.mark.parametrize("accumulate", [1, 2])
def test_dropout_is_of_the_seed_the_step_and_the_sequence(tiny, batch, accumulate):
    """Each sequence alone, with its own key, gives what the batch gives; another step or seed gives something else."""
    config = dataclasses.replace(tiny, dropout=0.3, n_layer=1)
    tx = make_optimizer(lambda step: 1e-3)
    state = state_of(GPT2(config, jax.random.key(0)), tx=tx)
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=tx, accumulate=accumulate))

    def loss(number, seed):
        fixed = Fixed(key=jax.random.key(seed))
        return float(step(dataclasses.replace(state, step=jnp.int32(number)), batch, fixed)[1]["loss"])

    keys = sequence_keys(jax.random.key(5), jnp.int32(3), 2)
    alone = [loss_fn(state.model, *(array[i : i + 1] for array in batch), keys=keys[i : i + 1])[0] for i in range(2)]
    np.testing.assert_allclose(loss(3, 5), sum(alone) / batch[1].size, rtol=1e-6)
    assert len({loss(3, 5), loss(4, 5), loss(3, 6), float(loss_fn(state.model, *batch)[0] / batch[1].size)}) == 4


def test_on_a_gpu_documents_are_masked_in_flash_attention(h100):
    """The masks do not cost the T x T weights that flash attention never has in memory, nor a loop."""
    on, _ = aot.described("h100")
    static = training(TrainConfig(B=2, T=256, n_layer=1, dropout=0.1), on, objective_of("completions"))
    tokens = jax.ShapeDtypeStruct((2, 256), "int32", sharding=sequences(on))
    program = static.step.lower(static.shapes, (tokens, tokens, tokens), static.fixed).compile().as_text()
    calls = re.findall(r'custom_call_target="(__cudnn[^"]*)"', program)
    assert sorted(calls) == ["__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"]
    assert " while(" not in program and "f32[2,12,256,256]" not in program
