"""BERT's padding, pairs, mesh, adapters, files and flags; its numbers are in parity/test_bert."""

import dataclasses
import functools
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxgpt.errors import CheckpointError
from jaxgpt.models.base import architecture
from jaxgpt.models.configs import BertConfig
from jaxgpt.models.convert import with_config
from jaxgpt.models.lora import merge, partition, with_base_weights
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.objectives.classification import label_logits
from jaxgpt.runs.huggingface import load_hf, save_hf
from jaxgpt.runtime.mesh import make_mesh, sharded_loss_and_grads, shardings, with_shardings
from jaxgpt.training.step import loss_and_grads
from tests.support.models import new_model, spread_model

CONFIG = BertConfig(vocab_size=61, block_size=32, n_layer=2, n_head=2, n_embd=16, intermediate_size=24)
ROBERTA = dataclasses.replace(CONFIG, position_offset=2, norm_eps=1e-5, token_types=1)
X = np.random.default_rng(0).integers(2, 61, (8, 12), dtype=np.int32)

hidden = jax.jit(lambda model, x, positions=None, keys=None: model.hidden(x, positions, keys))


def test_a_token_sees_its_whole_text_and_nothing_behind_it():
    model, last, zero = spread_model(dataclasses.replace(CONFIG, n_labels=3)), np.array([7] * 8), np.array([0] * 8)
    read, padded = jax.jit(label_logits), X.copy()
    logits = read(model, X, last, zero)
    padded[:, 8:] = 0
    np.testing.assert_allclose(read(model, padded, last, zero), logits, atol=1e-6)
    np.testing.assert_allclose(read(model, X[:, :8], last, zero), logits, atol=1e-5)
    padded[:, 7] = 1
    assert np.abs(read(model, padded, last, zero) - logits).max() > 1e-3
    assert np.abs(read(model, X, last, zero + 4) - logits).max() > 1e-3


@pytest.mark.slow
def test_dropout_is_of_each_sequence_alone():
    model = spread_model(dataclasses.replace(CONFIG, dropout=0.3))
    keys = jax.random.split(jax.random.key(0), 8)
    together = hidden(model, X, None, keys)
    np.testing.assert_allclose(together[5:6], hidden(model, X[5:6], None, keys[5:6]), atol=1e-5)
    assert np.abs(together - hidden(model, X)).max() > 0.1


@pytest.mark.parametrize("axes", [pytest.param({"data": 8}, marks=pytest.mark.slow), {"data": 2, "fsdp": 4}], ids=str)
def test_a_mesh_changes_no_gradient(axes, eight_devices):
    model, y = spread_model(CONFIG), np.where(np.arange(12) % 3 == 1, np.roll(X, 1), -1)
    batch = {"tokens": X, "targets": y, "positions": np.tile(np.r_[:8, :4], (8, 1))}
    of = {"objective": OBJECTIVES["completion"]}
    expected = jax.jit(functools.partial(loss_and_grads, **of))(model, batch)
    mesh, rules = make_mesh(axes, eight_devices), architecture(CONFIG).SHARDING_RULES
    placed = jax.device_put(model, shardings(with_shardings(model, mesh, rules)))
    found = jax.jit(functools.partial(sharded_loss_and_grads(loss_and_grads, mesh, "float32", rules), **of))(
        placed, batch
    )
    for ours, wanted in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(ours, wanted, atol=1e-5 * max(1, np.abs(wanted).max()))
    assert any(not leaf.sharding.is_fully_replicated for leaf in jax.tree.leaves(placed)) == ("fsdp" in axes)


def test_adapters_are_trained_alone_and_merge():
    config = dataclasses.replace(CONFIG, lora=3, lora_on=",".join(CONFIG.linear), n_labels=2)
    model = spread_model(config)
    trained, base = partition(model)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained)]
    assert len(names) == 2 * 6 + 4 and all(re.search("lora_|pooler|score", name) for name in names)
    assert len(jax.tree.leaves(base)) + len(names) == len(jax.tree.leaves(model))
    read, last = jax.jit(label_logits), np.full(8, 11)
    np.testing.assert_allclose(read(merge(model), X, last), read(model, X, last), atol=1e-5)
    low = with_config(model, dataclasses.replace(config, dtype="bfloat16"))
    exact, rough = read(model, X, last), read(low, X, last)
    assert rough.dtype == jnp.float32 and 0 < np.abs(exact - rough).max() < 0.1 * np.abs(exact).max()


@pytest.mark.slow
def test_a_head_for_labels_begins_on_a_masked_language_model_or_on_its_like():
    config = dataclasses.replace(CONFIG, n_labels=2)
    masked, new = spread_model(CONFIG), new_model(config, jax.random.key(5))
    given = with_base_weights(new, masked)
    np.testing.assert_array_equal(given.layer.query.kernel[...], masked.layer.query.kernel[...])
    np.testing.assert_array_equal(given.pooler.kernel[...], new.pooler.kernel[...])
    other = spread_model(config)
    swapped = with_base_weights(new, other, head=[1, 0])
    logits = label_logits(other, X, np.full(8, 11))
    np.testing.assert_allclose(label_logits(swapped, X, np.full(8, 11)), logits[:, ::-1], atol=1e-6)


@pytest.mark.parametrize("config", [CONFIG, ROBERTA, dataclasses.replace(ROBERTA, n_labels=3)], ids=str)
def test_what_is_saved_is_loaded_to_the_bit(config, tmp_path):
    """And what else the files of others have is left out: a pooler, a bias twice, TensorFlow's names of a norm."""
    model, labels = spread_model(dataclasses.replace(config, pad_vocab_to_multiple_of=8)), ("a", "b", "c")
    save_hf(model, tmp_path / "hf", labels[: config.n_labels])
    again, path = load_hf(tmp_path / "hf"), tmp_path / "hf" / "model.safetensors"
    assert again.config == config
    expected = jax.tree.leaves(with_config(model, config))
    assert all(np.array_equal(*both) for both in zip(jax.tree.leaves(again), expected, strict=True))

    if not config.n_labels:
        tensors = load_file(path)
        norms = {name for name in tensors if "LayerNorm" in name}
        old = {name.replace("weight", "gamma").replace("bias", "beta"): tensors.pop(name) for name in sorted(norms)}
        head = {"bert": "cls.predictions", "roberta": "lm_head"}[config.family]
        extra = {f"{config.family}.pooler.dense.bias": np.zeros(16, np.float32)}
        extra |= {f"{head}.decoder.bias": tensors[f"{head}.bias"], "cls.seq_relationship.bias": np.zeros(2, np.float32)}
        extra[f"{config.family}.embeddings.position_ids"] = np.arange(34, dtype=np.int64)[None]
        save_file(tensors | old | extra, path)
        assert all(np.array_equal(*both) for both in zip(jax.tree.leaves(load_hf(path.parent)), expected, strict=True))
        save_file({name: value for name, value in tensors.items() if name != f"{head}.bias"} | old, path)
        with pytest.raises(CheckpointError, match=f"tensor {head}.bias is missing; copy the model again"):
            load_hf(path.parent)
