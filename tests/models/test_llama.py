"""Llama's rotation, adapters, files and flags; its numbers are in parity/test_llama, what all promise in test_base."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.base import shapes
from jaxgpt.models.configs import LlamaConfig
from jaxgpt.models.convert import with_config
from jaxgpt.models.llama import frequencies, rotate, rotation_at
from jaxgpt.models.lora import merge, partition
from jaxgpt.runs.huggingface import load_hf, save_hf

SHAPE = {"vocab_size": 61, "block_size": 128, "n_layer": 2, "n_head": 4, "n_embd": 24}
CONFIG = LlamaConfig(**SHAPE, n_kv_head=2, head_size=10, intermediate_size=44)


def random_model(config):
    """A model of random numbers that no program made."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape), leaf.dtype), shapes(config))


def test_each_pair_is_turned_as_a_complex_number():
    """Feature i and i + D/2 are one number, turned by its position: at 0, and far from it."""
    rng, positions = np.random.default_rng(0), np.array([[0, 1, 77, 8000]])
    x = rng.normal(size=(1, 4, 2, 10)).astype(np.float32)
    found = np.asarray(rotate(x, rotation_at(CONFIG, positions)), np.float64)
    turns = np.exp(1j * positions[..., None] * frequencies(CONFIG).astype(np.float64))[:, :, None]  # (1, 4, 1, D/2)
    expected = (x[..., :5] + 1j * x[..., 5:]) * turns
    np.testing.assert_allclose(found[..., :5] + 1j * found[..., 5:], expected, atol=2e-3)
    np.testing.assert_allclose((found[..., :5] + 1j * found[..., 5:])[:, :3], expected[:, :3], atol=1e-5)
    np.testing.assert_allclose(frequencies(CONFIG), 10000.0 ** (-np.arange(5) / 5), rtol=1e-6)
    assert rotate(x.astype(jnp.bfloat16), rotation_at(CONFIG, positions)).dtype == jnp.bfloat16


def test_adapters_are_trained_alone_and_merge():
    config = dataclasses.replace(CONFIG, lora=3, lora_on=",".join(CONFIG.linear), n_labels=2)
    model = jax.tree.map(lambda leaf: 0.2 * leaf, random_model(config))
    x = np.random.default_rng(0).integers(0, 61, (2, 16), dtype=np.int32)
    trained, _ = partition(model)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(trained)]
    assert len(names) == 2 * 7 + 1 and all("lora_" in name or "score" in name for name in names)
    hidden = jax.jit(lambda model: model.hidden(x))
    np.testing.assert_allclose(hidden(merge(model)), hidden(model), atol=1e-4)
    low = with_config(model, dataclasses.replace(config, dtype="bfloat16"))
    exact, rough = hidden(model), hidden(low)
    assert rough.dtype == jnp.bfloat16
    assert 0 < np.abs(exact - rough.astype(jnp.float32)).max() < 0.05 * np.abs(exact).max()


@pytest.mark.parametrize("fields", [{}, {"qkv_bias": True, "untied_head": True}, {"qk_norm": True}], ids=str)
def test_what_is_saved_is_loaded_to_the_bit(fields, tmp_path):
    config = dataclasses.replace(CONFIG, **fields, rope_scaling="8,1,4.5,32", rope_theta=500.0)
    model = random_model(config)
    save_hf(model, tmp_path / "hf")
    again = load_hf(tmp_path / "hf")
    assert again.config == config
    assert all(np.array_equal(*both) for both in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True))


def test_what_transformers_has_no_model_for_is_not_saved(tmp_path):
    config = dataclasses.replace(CONFIG, qk_norm=True, qkv_bias=True)
    with pytest.raises(UsageError, match="no Llama of transformers is like this one, of 2 layers, 4 heads of 10"):
        save_hf(random_model(config), tmp_path / "hf")
    assert not (tmp_path / "hf").exists()


def test_a_wrong_tensor_is_named(tmp_path):
    save_hf(random_model(CONFIG), tmp_path / "hf")
    path = tmp_path / "hf" / "config.json"
    path.write_text(path.read_text().replace('"num_key_value_heads": 2', '"num_key_value_heads": 1'))
    message = "self_attn.k_proj.weight has shape (20, 24), and by config.json it has (10, 24)"
    with pytest.raises(CheckpointError, match=re.escape(message)):
        load_hf(tmp_path / "hf")
