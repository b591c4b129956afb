import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from jaxgpt.models.gpt2 import GPT2
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import lr_schedule, make_optimizer, matrices


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


@pytest.mark.parametrize("decay, clip", [("all", 0.0), ("matrices", 1.0)])
def test_adamw_is_the_papers(decay, clip):
    rng = np.random.default_rng(0)
    shapes = {"kernel": (3, 4, 5), "bias": (3, 5), "embedding": (7, 4), "scale": (4,)}
    params = {name: rng.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    grads = [{n: rng.normal(size=s).astype(np.float32) for n, s in shapes.items()} for _ in range(5)]
    config = OptimizerConfig(0.01, beta2=0.95, weight_decay=0.1, decay=decay, grad_clip=clip)
    tx = make_optimizer(config, lr_schedule(config, 5))
    state, got = tx.init(params), params
    for g in grads:
        updates, state = tx.update(g, state, got)
        got = optax.apply_updates(got, updates)
    decayed = set(shapes) if decay == "all" else {"kernel", "embedding"}
    want = adamw(params, grads, 0.01, 0.9, 0.95, 1e-8, 0.1, decayed, clip)
    for name in shapes:
        np.testing.assert_allclose(got[name], want[name], atol=1e-6)


def test_stacked_biases_are_not_matrices(tiny):
    model = jax.eval_shape(lambda: GPT2(tiny, jax.random.key(0)))
    decayed = {jax.tree_util.keystr(path) for path, yes in jax.tree_util.tree_leaves_with_path(matrices(model)) if yes}
    kernels = ["attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj"]
    assert {name.removesuffix(".value") for name in decayed} == {
        ".wte.embedding",
        ".wpe.embedding",
        *(f".h.{name}.kernel" for name in kernels),
    }
