"""Griffin's order of layers, window, adapters, files and flags; its numbers are in parity/test_griffin."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.base import shapes
from jaxgpt.models.configs import GriffinConfig
from jaxgpt.models.convert import with_config
from jaxgpt.models.griffin import hf_names
from jaxgpt.models.layers import unstack_layers
from jaxgpt.models.lora import merge, partition
from jaxgpt.runs.huggingface import load_hf, save_hf
from jaxgpt.training.muon import _labels

SHAPE = {"vocab_size": 61, "block_size": 128, "n_head": 2, "n_embd": 20, "intermediate_size": 28}
CONFIG = GriffinConfig(**SHAPE, n_layer=5, lru_width=12, window=6)


def random_model(config, scale=0.2):
    """A model of random numbers that no program made."""
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda leaf: jnp.asarray(scale * rng.normal(size=leaf.shape), leaf.dtype), shapes(config))


hidden = jax.jit(lambda model, tokens: model.hidden(tokens))


def tokens_of(*shape):
    return np.random.default_rng(0).integers(0, 61, shape, dtype=np.int32)


def test_layers_are_in_the_order_of_the_pattern():
    names = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(shapes(CONFIG)):
        names |= dict.fromkeys(hf_names(path, CONFIG), leaf)
    layers = [{name.split(".")[4] for name in names if f"layers.{i}.temporal_block" in name} for i in range(5)]
    assert ["q_proj" in layer for layer in layers] == [False, False, True, False, False]
    assert all({"linear_x", "rg_lru"} <= layer for i, layer in enumerate(layers) if i != 2)


@pytest.mark.parametrize("cached", [False, True])
def test_attention_sees_its_window_alone(cached):
    """One layer of attention, to the bit: a changed token shows in itself and the window - 1 behind it."""
    config = dataclasses.replace(CONFIG, n_layer=1, pattern="a", window=4)
    model, x = random_model(config, 0.5), tokens_of(1, 12)
    decode = jax.jit(type(model).decode)

    def run(x):
        if not cached:
            return np.asarray(hidden(model, x))
        cache, found = model.init_cache(1, 12), []
        assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(1, 3, 1, 10)}  # whatever the length
        for t in range(12):
            y, cache = decode(unstack_layers(model), x[:, t : t + 1], cache, np.array(t))
            found.append(y)
        return np.concatenate(found, axis=1)

    before = run(x)
    for t in (0, 5, 10):
        changed = x.copy()
        changed[:, t] = (changed[:, t] + 1) % 61
        same = (run(changed) == before).all(-1)[0]
        assert [i for i in range(12) if not same[i]] == [*range(t, min(t + 4, 12))]


@pytest.mark.slow
def test_adapters_are_trained_alone_and_merge():
    config = dataclasses.replace(CONFIG, lora=3, lora_on=",".join(CONFIG.linear), n_labels=2)
    model, x = random_model(config), tokens_of(2, 16)
    names = [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(partition(model)[0])]
    assert len(names) == 2 * (3 + 3) + 2 * (4 + 3) + 1 and all("lora_" in name or "score" in name for name in names)
    np.testing.assert_allclose(hidden(merge(model), x), hidden(model, x), atol=1e-4)
    exact, rough = hidden(model, x), hidden(with_config(model, dataclasses.replace(config, dtype="bfloat16")), x)
    assert rough.dtype == jnp.bfloat16
    assert 0 < np.abs(exact - rough.astype(jnp.float32)).mean() < 0.05 * np.abs(exact).mean()


def test_muon_has_the_kernels_and_adamw_the_gates():
    labels = {
        jax.tree_util.keystr(path): label
        for path, label in jax.tree_util.tree_leaves_with_path(_labels(shapes(CONFIG)))
    }
    assert {name.split(".")[-3] for name, label in labels.items() if label == "muon"} == {*CONFIG.linear}


@pytest.mark.parametrize(
    "fields", [{}, {"pattern": "r", "untied_head": True}, {"pattern": "ar", "n_kv_head": 2}], ids=str
)
def test_what_is_saved_is_loaded_to_the_bit(fields, tmp_path):
    config = dataclasses.replace(CONFIG, **fields, rope_theta=500.0, norm_eps=1e-5, logits_soft_cap=4.5)
    model = random_model(config)
    save_hf(model, tmp_path / "hf")
    again = load_hf(tmp_path / "hf")
    assert again.config == config
    assert all(np.array_equal(*both) for both in zip(jax.tree.leaves(model), jax.tree.leaves(again), strict=True))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"logits_soft_cap": 0.0}, "a RecurrentGemma of transformers caps its logits, and this model does not"),
        ({"n_labels": 2}, "a Griffin of transformers has no head for labels"),
    ],
    ids=str,
)
def test_what_transformers_has_no_model_for_is_not_saved(fields, message, tmp_path):
    with pytest.raises(UsageError, match=message):
        save_hf(random_model(dataclasses.replace(CONFIG, **fields)), tmp_path / "hf", ["a", "b"])
    assert not (tmp_path / "hf").exists()
