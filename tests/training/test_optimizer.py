import dataclasses
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.models.base import shapes
from jaxgpt.models.configs import GatedCNNConfig, GriffinConfig
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer, matrices
from tests.support.models import new_model


def get_lr(it, max_lr, max_steps, warmup_steps, min_ratio):
    """The schedule of build-nanogpt, in plain Python."""
    if it < warmup_steps:
        return max_lr * (it + 1) / warmup_steps
    decay_ratio = (it - warmup_steps) / (max_steps - warmup_steps)
    return max_lr * (min_ratio + (1 - min_ratio) * 0.5 * (1.0 + math.cos(math.pi * decay_ratio)))


@pytest.mark.parametrize("warmup_ratio", [0.0, 0.0375, 0.01, 0.5])
@pytest.mark.parametrize("steps", [100, 37, 1])
def test_warm_up_and_cosine(warmup_ratio, steps):
    schedule = lr_schedule(OptimizerConfig(6e-4, "cosine", warmup_ratio, 0.1), steps)
    want = [get_lr(it, 6e-4, steps, round(warmup_ratio * steps), 0.1) for it in range(steps)]
    np.testing.assert_allclose(jax.vmap(schedule)(jnp.arange(steps)), want, rtol=1e-5)


@pytest.mark.parametrize("warmup_ratio, cooldown_ratio, steps", [(0.1, 0.2, 100), (0.0, 1.0, 37), (0.3, 0.0, 10)])
def test_warm_up_stable_decay(warmup_ratio, cooldown_ratio, steps):
    config = OptimizerConfig(6e-4, "wsd", warmup_ratio, 0.1, cooldown_ratio)
    warmup, cooldown = round(warmup_ratio * steps), round(cooldown_ratio * steps)

    def rate(it):
        left = steps - it
        return 6e-4 * min((it + 1) / max(1, warmup), 1) * (0.1 + 0.9 * left / cooldown if left < cooldown else 1)

    got = jax.vmap(lr_schedule(config, steps))(jnp.arange(steps))
    np.testing.assert_allclose(got, [rate(it) for it in range(steps)], rtol=1e-5)


def test_the_default_is_constant():
    assert np.all(jax.vmap(lr_schedule(OptimizerConfig(), 10))(jnp.arange(10)) == np.float32(3e-4))
    rising = jax.vmap(lr_schedule(OptimizerConfig(warmup_ratio=1.0), 10))(jnp.arange(10))
    np.testing.assert_allclose(rising, np.linspace(3e-5, 3e-4, 10), rtol=1e-6)


def adamw(params, grads, lr, beta1, beta2, eps, weight_decay, decayed, clip):
    """AdamW in float64, as PyTorch's documentation writes it."""
    params = {name: np.asarray(value, np.float64) for name, value in params.items()}
    m = {name: np.zeros_like(value) for name, value in params.items()}
    v = {name: np.zeros_like(value) for name, value in params.items()}
    for t, step_grads in enumerate(grads, start=1):
        norm = math.sqrt(sum((np.asarray(g, np.float64) ** 2).sum() for g in step_grads.values()))
        for name in params:
            g = np.asarray(step_grads[name], np.float64) * (min(1.0, clip / norm) if clip else 1.0)
            if name in decayed:
                params[name] = params[name] - lr * weight_decay * params[name]
            m[name] = beta1 * m[name] + (1 - beta1) * g
            v[name] = beta2 * v[name] + (1 - beta2) * g**2
            m_hat, v_hat = m[name] / (1 - beta1**t), v[name] / (1 - beta2**t)
            params[name] = params[name] - lr * m_hat / (np.sqrt(v_hat) + eps)
    return params


MATRICES = ("kernel", "embedding", "lora_a", "lora_b", "weight")


def by_name(tree):
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {jax.tree_util.keystr(path).removesuffix(".value"): leaf for path, leaf in leaves}


@pytest.mark.parametrize("decay, clip", [("all", 0.0), ("matrices", 1.0)])
def test_adamw_is_the_papers(tiny, decay, clip):
    model, rng = new_model(dataclasses.replace(tiny, lora=2), jax.random.key(0)), np.random.default_rng(0)
    grads = [jax.tree.map(lambda p: rng.normal(size=p.shape).astype(np.float32), model) for _ in range(3)]
    config = OptimizerConfig(0.01, beta2=0.95, weight_decay=0.1, decay=decay, grad_clip=clip)
    tx = make_optimizer(config, lr_schedule(config, 5))
    update, state, got = jax.jit(tx.update), tx.init(model), model
    for g in grads:
        updates, state = update(g, state, got)
        got = optax.apply_updates(got, updates)
    decayed = {name for name in by_name(model) if decay == "all" or name.endswith(MATRICES)}
    want = adamw(by_name(model), map(by_name, grads), 0.01, 0.9, 0.95, 1e-8, 0.1, decayed, clip)
    for name, value in by_name(got).items():
        np.testing.assert_allclose(value, want[name], atol=1e-6, err_msg=name)


def test_every_models_matrices_decay(tiny):
    """Adapters, heads and convolutions too; biases and norms do not, though a stack gives them another axis."""
    configs = [
        dataclasses.replace(tiny, lora=2, lora_on="attn.c_attn,mlp.c_proj", n_labels=3),
        dataclasses.replace(tiny, n_layer=3, predict_tokens=2, untied_head=True),
        GatedCNNConfig(vocab_size=61, block_size=16, n_layer=2, n_embd=8),
        GriffinConfig(vocab_size=61, block_size=16, n_layer=3, n_head=2, n_embd=8),
    ]
    for config in configs:
        model = shapes(config)
        decayed = [name for name, yes in by_name(matrices(model)).items() if yes]
        assert decayed == [name for name in by_name(model) if name.endswith(MATRICES)]


def test_a_schedule_goes_on_with_other_batches():
    """40 of 100 steps, then batches twice as large: 30 more, of which the rates are every second of those before."""
    config = OptimizerConfig(6e-4, "cosine", 0.5, 0.1)
    rates = jax.vmap(lr_schedule(config, 70, lead=-20))(jnp.arange(40, 70))
    want = [get_lr(it, 6e-4, 50, 25, 0.1) for it in range(20, 50)]
    np.testing.assert_allclose(rates, want, rtol=1e-5)
