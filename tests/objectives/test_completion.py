"""What is lost on completions, against sums by hand over single documents."""

import functools
import re

import jax
import numpy as np
import pytest

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import choose_objective, completion, next_token
from jaxgpt.runtime.mesh import batch_sharding
from jaxgpt.runtime.xla import aot
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.setup import build_trainer
from jaxgpt.training.step import loss_and_grads

# Two sequences of 12: documents of 5 and 6 tokens and the room left; one of 12. y is below 0 where it is a prompt's.
X = np.random.default_rng(0).integers(1, 61, (2, 12), dtype=np.int32)
POSITIONS = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0], range(12)], np.int32)
Y = np.roll(X, -1, axis=1)
Y[0, [0, 1, 4, 5, 10, 11]] = Y[1, :7] = -1
BATCH = {"tokens": X, "targets": Y, "positions": POSITIONS}
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
    metrics, grads = jax.jit(functools.partial(loss_and_grads, objective=completion.OBJECTIVE))(model, BATCH)
    total, count = metrics["loss"]
    assert count == (Y >= 0).sum() == 11
    np.testing.assert_allclose(total, expected, rtol=1e-6)
    for found, expected in zip(jax.tree.leaves(grads), jax.tree.leaves(slope), strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5 * abs(expected).max())  # float32 sums


@pytest.mark.parametrize("change", ["prompt of the other document", "target that is masked"])
def test_nothing_leaks_between_documents(model, change):
    def batch(x, y):
        return {"tokens": x, "targets": y, "positions": POSITIONS}

    x, y = X.copy(), Y.copy()
    if change == "target that is masked":
        y[0, 0] = -7
    else:
        x[0, :5] = 7
    loss = jax.jit(lambda x, y: completion.loss(model, jax.tree.map(lambda array: array[:1], batch(x, y)))["loss"][0])
    y[0, 2:4] = -1  # the first document's own loss does change
    before = Y.copy()
    before[0, 2:4] = -1
    assert loss(x, y) == loss(X, before)


def test_one_document_a_sequence_is_plain_training(model, batch):
    positions = np.tile(np.arange(12, dtype=np.int32), (2, 1))
    metrics = completion.loss(model, batch | {"positions": positions})
    np.testing.assert_allclose(metrics["loss"], next_token.loss(model, batch)["loss"], rtol=1e-6)


def test_measures_are_sums_of_single_losses(model):
    found = jax.jit(next_token.measure)(model, BATCH)
    losses = []
    for row, place in DOCUMENTS:
        logits = np.asarray(model(X[None, row, place])[0], np.float64)
        logp = logits - np.log(np.exp(logits).sum(-1, keepdims=True))
        losses += [-logp[t, target] for t, target in enumerate(Y[row, place]) if target >= 0]
    expected = {"loss": (sum(losses), 11), "loss_squared": (sum(loss**2 for loss in losses), 11)}
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=1e-5)


@pytest.mark.slow
def test_on_a_gpu_documents_are_masked_in_flash_attention(h100):
    """The masks do not cost the T x T weights that flash attention never has in memory, nor a loop."""
    on, _ = aot.described("h100")
    config = TrainConfig.of(B=2, T=256, n_layer=1, dropout=0.1)
    trainer = build_trainer(config, on, choose_objective("completions"))
    tokens = jax.ShapeDtypeStruct((2, 256), "int32", sharding=batch_sharding(on))
    batch = dict.fromkeys(BATCH, tokens)
    program = trainer.step.lower(trainer.shapes, batch, trainer.frozen).compile().as_text()
    calls = re.findall(r'custom_call_target="(__cudnn[^"]*)"', program)
    assert sorted(calls) == ["__cudnn$fmhaScaleBiasSoftmax", "__cudnn$fmhaScaleBiasSoftmaxBackward"]
    assert " while(" not in program and "f32[2,12,256,256]" not in program
