"""BERT and RoBERTa against transformers' own: numbers, training, labels, files, adapters; float32."""

import functools
import json
import math

import jax
import numpy as np
import pytest

from jaxgpt.models.base import next_token_logits
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.objectives.classification import label_logits
from jaxgpt.objectives.next_token import sum_losses
from jaxgpt.runs.huggingface import load, load_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state_from, train_step
from tests.support import golden
from tests.support.parity import require_gradients_of, save_adapter, save_again

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)

SHAPE = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "max_position_embeddings": 98}
CASES = {"Bert": {}, "Roberta": {"layer_norm_eps": 1e-5}}  # both with two token types, so that they show
BOTH = ["Bert", pytest.param("Roberta", marks=pytest.mark.slow)]


def theirs_of(case, kind="ForMaskedLM", **changes):
    """A model of transformers, every parameter moved so that each one's place in the formulas shows."""
    torch.manual_seed(0)
    config = getattr(transformers, f"{case}Config")(**SHAPE | CASES[case] | changes)
    model = getattr(transformers, case + kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def ids(*shape, seed=0):
    """No padding, 0 of a BERT and 1 of a RoBERTa, which transformers would keep from being trained."""
    return np.random.default_rng(seed).integers(2, SHAPE["vocab_size"], shape, dtype=np.int32)


def padded_pairs(case):
    """Two pairs of texts, of 96 tokens and of 70: tokens, positions, token types, last columns, second texts' first."""
    x, last, second = ids(2, 96), np.array([95, 69], np.int32), np.array([40, 30], np.int32)
    column = np.arange(96)
    is_text = column <= last[:, None]
    x[~is_text] = {"Bert": 0, "Roberta": 1}[case]
    positions = np.where(is_text, column, column - last[:, None] - 1)
    return x, positions, ((column >= second[:, None]) & is_text).astype(np.int32), last, second


def logits_of(model, x, is_text=None, types=None):
    """Those of transformers, with a gradient."""
    rest = {} if is_text is None else {"attention_mask": torch.tensor(is_text).long()}
    rest |= {} if types is None else {"token_type_ids": torch.tensor(types).long()}
    return model(torch.tensor(x).long(), **rest).logits


@jax.jit
def logits(model, x, positions=None, types=None):
    return next_token_logits(model, model.hidden(x, positions, None, types))


@pytest.mark.parametrize("case", BOTH)
def test_logits_gradients_and_files(case, tmp_path):
    """Of pairs, padded, at 96 positions; the loss is that of chosen tokens alone."""
    theirs, (x, positions, types, last, _) = theirs_of(case), padded_pairs(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, is_text = load_hf(tmp_path / "theirs"), np.arange(96) <= last[:, None]
    assert ours.config.block_size == {"Bert": 98, "Roberta": 96}[case]

    expected = logits_of(theirs, x, is_text, types)
    plain = logits_of(theirs, x, is_text).detach().numpy()  # without token types, which must show
    assert min(abs(expected.detach().numpy() - plain).max(), abs(plain).max()) > 1
    found = logits(ours, x, positions, types)
    np.testing.assert_allclose(found[is_text], expected.detach().numpy()[is_text], atol=1e-5)

    y = np.where(is_text & (np.random.default_rng(1).random((2, 96)) < 0.3), ids(2, 96, seed=2), -1)
    torch.nn.functional.cross_entropy(
        expected.flatten(0, 1), torch.tensor(y).flatten().long(), ignore_index=-1
    ).backward()

    def loss(model):
        return sum_losses(model, model.hidden(x, positions, None, types), y) / (y >= 0).sum()

    require_gradients_of(theirs, jax.jit(jax.grad(loss))(ours), tmp_path / "gradients")
    again = type(theirs).from_pretrained(save_again(ours, tmp_path / "theirs", tmp_path / "ours")).eval()
    np.testing.assert_array_equal(logits_of(again, x, is_text, types).detach(), expected.detach())


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_ten_steps(case, tmp_path):
    theirs, flags = theirs_of(case), golden.RECIPES["chapter"]
    theirs.save_pretrained(tmp_path / "theirs")
    x, chosen = ids(2, 2, 80), np.random.default_rng(1).random((2, 2, 80)) < 0.3
    y = np.where(chosen, ids(2, 2, 80, seed=2), -100)  # cross_entropy's own number of what is not counted
    losses, _ = golden.train(theirs, flags, [(x[i], y[i]) for i in [0, 1] * 5])
    tx = make_optimizer(OptimizerConfig(**flags), flags["lr"])
    step = jax.jit(functools.partial(train_step, objective=OBJECTIVES["completion"], tx=tx))
    state, positions = init_state_from(load_hf(tmp_path / "theirs"), tx=tx), np.tile(np.arange(80), (2, 1))
    for i, wanted in zip([0, 1] * 5, losses, strict=True):
        state, metrics = step(state, {"tokens": x[i], "targets": y[i], "positions": positions})
        np.testing.assert_allclose(metrics["loss"], wanted, atol=1e-4)
    assert losses[-2] < losses[0] - 0.1


@pytest.mark.parametrize("case", BOTH)
def test_a_head_for_labels(case, tmp_path):
    """Of pairs and padding; and of texts alone."""
    theirs, (x, _, types, last, second) = theirs_of(case, "ForSequenceClassification", num_labels=3), padded_pairs(case)
    theirs.save_pretrained(tmp_path / "theirs")
    source, is_text = resolve_weights(tmp_path / "theirs"), np.arange(96) <= last[:, None]
    ours = load(source)
    with torch.no_grad():
        pairs, single = logits_of(theirs, x, is_text, types), logits_of(theirs, x, is_text)
        assert (pairs - single).abs().max() > 1e-2
        np.testing.assert_allclose(jax.jit(label_logits)(ours, x, last, second), pairs, atol=1e-5)
        np.testing.assert_allclose(jax.jit(label_logits)(ours, x, last), single, atol=1e-5)
        folder = save_again(ours, tmp_path / "theirs", tmp_path / "ours", source.labels)
        assert json.loads((folder / "config.json").read_text())["architectures"] == [type(theirs).__name__]
        again = type(theirs).from_pretrained(folder).eval()
        np.testing.assert_array_equal(logits_of(again, x, is_text, types), pairs)


@pytest.mark.slow
def test_adapters_are_pefts(tmp_path):
    """An adapter of peft's on every linear layer, merged when it is read."""
    theirs, x = theirs_of("Bert"), ids(2, 96)
    before = logits_of(theirs, x).detach().numpy()
    model = save_adapter(theirs, tmp_path)
    expected = logits_of(model.eval(), x).detach().numpy()
    assert math.inf > np.abs(expected - before).max() > 0.1
    np.testing.assert_allclose(logits(load(resolve_weights(tmp_path / "adapter")), x), expected, atol=2e-5)
