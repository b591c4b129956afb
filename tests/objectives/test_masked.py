"""The loss on hidden tokens alone, against PyTorch's with the same logits and the same masks."""

import jax
import numpy as np
import pytest

from jaxgpt.data.masking import mask_row
from jaxgpt.models.base import unembed
from jaxgpt.models.configs import BertConfig
from jaxgpt.objectives import masked
from tests.support import golden
from tests.support.models import spread_model

CONFIG = BertConfig(vocab_size=61, block_size=24, n_layer=1, n_head=2, n_embd=16)


@pytest.fixture(scope="module")
def model():
    return spread_model(CONFIG)


@pytest.fixture(scope="module")
def batch():
    tokens = np.random.default_rng(0).integers(1, 59, (3, 24), dtype=np.int32)
    ordinary = np.arange(61) < 59
    rows = [mask_row(row, 5, number, 0.3, 60, ordinary) for number, row in enumerate(tokens)]
    hidden, targets = (np.stack(each) for each in zip(*rows, strict=True))
    return {"tokens": hidden, "targets": targets}


def test_the_loss_is_pytorchs_on_the_same_masks(model, batch):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    logits = np.asarray(unembed(model, model.hidden(batch["tokens"])))
    losses = torch.nn.functional.cross_entropy(
        torch.from_numpy(logits.reshape(-1, 61).copy()),
        torch.from_numpy(batch["targets"].reshape(-1).astype(np.int64)),
        ignore_index=-1,
        reduction="none",
    ).numpy()
    n, total = (batch["targets"] >= 0).sum(), losses.sum()
    assert 10 < n < 40
    for metrics in (jax.jit(masked.loss)(model, batch), found := jax.jit(masked.measure)(model, batch)):
        assert metrics["loss"][1] == n
        np.testing.assert_allclose(metrics["loss"][0] / n, total / n, rtol=1e-5)
    np.testing.assert_allclose(found["loss_squared"][0], (losses**2).sum(), rtol=1e-5)
    np.testing.assert_allclose(found["bits_per_masked_token"][0], total / np.log(2), rtol=1e-5)
    assert found["accuracy"][0] == (logits.argmax(-1) == batch["targets"]).sum()


def test_padding_changes_nothing(model, batch):
    longer = {name: np.pad(array, ((0, 0), (0, 0)))[:, :15].copy() for name, array in batch.items()}
    padded = {"tokens": np.pad(longer["tokens"], ((0, 0), (0, 9)), constant_values=7)}
    padded["targets"] = np.pad(longer["targets"], ((0, 0), (0, 9)), constant_values=-1)
    padded["positions"] = np.tile(np.r_[:15, :9].astype(np.int32), (3, 1))
    expected, found = (jax.jit(masked.loss)(model, each)["loss"] for each in (longer, padded))
    np.testing.assert_allclose(found, expected, rtol=1e-5)
