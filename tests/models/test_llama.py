"""Llama's rotation, adapters, files and flags; its numbers are in parity/test_llama, what all promise in test_base."""

import dataclasses
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.base import shapes
from jaxgpt.models.configs import LlamaConfig
from jaxgpt.models.convert import with_config
from jaxgpt.models.llama import frequencies, rotate, rotation_at
from jaxgpt.models.lora import merge, partition
from jaxgpt.runs.huggingface import load_hf, save_hf
from jaxgpt.training.config import Preset, TrainConfig

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


# ---- Flags


def from_words(words):
    return parse(TrainConfig, words, TrainConfig.from_preset(parse_some(Preset, words)))


def test_the_flags_of_its_shape():
    config = from_words(["--arch", "llama"]).model_config()
    assert config == LlamaConfig() and (config.n_kv_head, config.head_size, config.intermediate_size) == (12, 64, 2048)
    small = from_words(["--arch=llama", "--size", "smollm2-135m", "--T", "2048", "--lora", "4"]).model_config()
    assert (small.n_layer, small.n_kv_head, small.rope_theta, small.block_size) == (30, 3, 1e5, 8192)
    assert small.adapts("q_proj") and small.adapts("v_proj") and not small.adapts("o_proj")
    words = ["--n-kv-head", "2", "--head-size", "6", "--qkv-bias", "--rope-scaling", "8,1,4,64", "--norm-eps", "1e-6"]
    given = from_words(["--arch", "llama", "--size", "tiny", *words]).model_config()
    shape = {"n_kv_head": 2, "head_size": 6, "qkv_bias": True, "rope_scaling": "8,1,4,64", "norm_eps": 1e-6}
    assert given == LlamaConfig(n_layer=2, n_head=4, n_embd=64, **shape)
    assert TrainConfig.of(arch="llama", n_embd=24, n_head=2).model_config().lora_on == "q_proj,v_proj"


@pytest.mark.parametrize(
    "words, message",
    [
        (["--predict-tokens", "2"], "--predict-tokens 2: --arch llama has no such flag"),
        (["--kernel-size", "2"], "--kernel-size 2: --arch llama has no such flag"),
        (["--n-kv-head", "5"], "--n-head 12 can't be split over --n-kv-head 5 heads of keys and values"),
        (["--n-kv-head", "0"], "--n-kv-head 0 is out of range: it must be at least 1"),
        (["--head-size", "3"], "--head-size 3 is odd"),
        (["--n-embd", "100"], "--n-embd 100 can't be split over --n-head 12 heads"),
        (["--rope-scaling", "8,1,4"], "--rope-scaling 8,1,4 is out of range: it must be none, or four numbers above 0"),
        (["--rope-theta", "0"], "--rope-theta 0.0 is out of range: it must be a finite number above 0"),
        (["--lora", "2", "--lora-on", "c_attn"], "--lora-on c_attn: no layer is called 'c_attn'; use q_proj, k_proj"),
        (["--size", "gpt2-xl"], "--size gpt2-xl: --arch llama has no such size"),
        (["--probe", "induction"], "--probe induction reads the heads of a GPT-2"),
        (["--mesh", "fsdp=5"], "--B 4 must be divisible by the 5 devices of --mesh fsdp=5"),
        (["--arch", "gpt2", "--qk-norm"], "--qk-norm True: --arch gpt2 has no such flag"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_does_not_fit_is_named(words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        from_words(["--arch", "llama", *words])
