import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.models.lora import combine, merge, partition, with_base_weights
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import FrozenInputs, init_state_from, train_step
from tests.support.losses import NEXT_TOKEN, mean_loss

ALL = "attn.c_attn,attn.c_proj,mlp.c_fc,mlp.c_proj"


@pytest.fixture
def adapted(tiny):
    return dataclasses.replace(tiny, lora=3, lora_alpha=6.0, lora_on=ALL)


def names(tree):
    return [jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_leaves_with_path(tree)]


def test_only_adapters_have_gradients_moments_and_updates(tiny, adapted, batch):
    plain, model = GPT2(tiny, jax.random.key(0)), GPT2(adapted, jax.random.key(1))
    trained, base = partition(with_base_weights(model, plain))
    L, C, r = tiny.n_layer, tiny.n_embd, 3
    sizes = {name: leaf.size for name, leaf in zip(names(trained), jax.tree.leaves(trained), strict=True)}
    assert all("lora_" in name for name in sizes)
    assert sum(sizes.values()) == L * r * ((C + 3 * C) + (C + C) + (C + 4 * C) + (4 * C + C))
    tx = make_optimizer(OptimizerConfig(), 1e-2)
    state = init_state_from(combine(trained, base), tx=tx)
    assert all("lora_" in name or "count" in name for name in names(state.opt_state))
    step, fixed = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx)), FrozenInputs(base)
    before = {name: np.array(leaf) for name, leaf in zip(names(base), jax.tree.leaves(base), strict=True)}
    losses = []
    for _ in range(20):
        state, metrics = step(state, batch, fixed)
        losses.append(float(metrics["loss"]))
    np.testing.assert_allclose(losses[0], mean_loss(plain, batch), rtol=1e-6)  # at first they add nothing
    assert losses[-1] < losses[0] - 0.1
    for name, leaf in zip(names(fixed.base), jax.tree.leaves(fixed.base), strict=True):
        assert before[name].tobytes() == np.asarray(leaf).tobytes()
    for old, new in zip(jax.tree.leaves(trained), jax.tree.leaves(state.model), strict=True):
        assert not np.array_equal(old, new)
    assert jax.tree.structure(state.model) == jax.tree.structure(trained)


def test_the_gradient_is_that_of_the_merged_model_by_the_chain_rule(tiny, adapted, batch):
    model = jax.tree.map(lambda leaf: leaf + 0.05, GPT2(adapted, jax.random.key(0)))
    trained, base = partition(model)
    slope = jax.jit(jax.grad(lambda part: mean_loss(combine(part, base), batch)))(trained)
    whole = jax.jit(jax.grad(lambda model: mean_loss(model, batch)))(merge(model))
    dW, a, b = whole.h.mlp.c_fc.kernel[...], model.h.mlp.c_fc.lora_a[...], model.h.mlp.c_fc.lora_b[...]
    scale = 6.0 / 3
    np.testing.assert_allclose(slope.h.mlp.c_fc.lora_a[...], scale * dW @ b.swapaxes(1, 2), rtol=2e-3, atol=1e-4)
    np.testing.assert_allclose(slope.h.mlp.c_fc.lora_b[...], scale * a.swapaxes(1, 2) @ dW, rtol=2e-3, atol=1e-4)


def test_merged_is_base_plus_adapters(adapted, batch):
    model = jax.tree.map(lambda leaf: leaf + 0.03, GPT2(adapted, jax.random.key(0)))
    merged = merge(model)
    assert not any("lora" in name for name in names(merged)) and merged.config.lora == 0
    for layer, part in ((model.h.attn.c_proj, merged.h.attn.c_proj), (model.h.mlp.c_proj, merged.h.mlp.c_proj)):
        by_hand = np.asarray(layer.kernel[...], np.float64).copy()
        for i in range(adapted.n_layer):
            for k in range(3):
                by_hand[i] += 2.0 * np.outer(layer.lora_a[...][i, :, k], layer.lora_b[...][i, k])
        np.testing.assert_allclose(part.kernel[...], by_hand, atol=1e-6)
        np.testing.assert_array_equal(part.bias[...], layer.bias[...])
    x = batch["tokens"]
    np.testing.assert_allclose(merged(x), model(x), atol=1e-4)


def test_a_head_is_trained_with_the_adapters(adapted):
    model = GPT2(dataclasses.replace(adapted, lora_on="attn.c_attn", n_labels=2), jax.random.key(0))
    trained, base = partition(model)
    assert {name.split(".")[-2] for name in names(trained)} == {"lora_a", "lora_b", "kernel"}
    assert [name for name in names(trained) if "kernel" in name] == [".score.kernel.value"]
    assert jax.tree.structure(combine(trained, base)) == jax.tree.structure(model)
    assert jax.tree.all(jax.tree.map(jnp.array_equal, combine(trained, base), model))


def test_without_adapters_all_is_trained(tiny):
    model = GPT2(tiny, jax.random.key(0))
    assert partition(model) == (model, None) and combine(model, None) is model
