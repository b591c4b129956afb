import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.configs import GatedCNNConfig, GPT2Config
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.muon import RMS
from jaxgpt.training.optimizer import make_optimizer
from tests.support.models import new_model

GPT2 = GPT2Config(vocab_size=31, block_size=8, n_layer=2, n_head=2, n_embd=12)
CNN = GatedCNNConfig(vocab_size=31, block_size=8, n_layer=2, n_embd=12, bottleneck=8, kernel_size=2)
PARTS = {"c_attn": 3, "narrow": 2, "conv": 2, "widen": 2}  # matrices that stand side by side in one kernel
LR, DECAY, BETA, STEPS = 0.01, 0.1, 0.9, 4
CONFIG = OptimizerConfig(LR, weight_decay=DECAY, optimizer="muon", muon_beta=BETA)


def matrices(tree):
    """Every matrix of every layer that Muon updates, by name: (layer, part) of each kernel."""
    found = {}
    for path, leaf in jax.tree_util.tree_leaves_with_path(tree):
        name = jax.tree_util.keystr(path)
        if name.startswith(".h.") and ".kernel" in name:
            parts = next((n for word, n in PARTS.items() if f".{word}." in name), 1)
            for layer, kernel in enumerate(np.asarray(leaf)):
                for number, part in enumerate(np.split(kernel, parts, axis=1)):
                    found[name, layer, number] = part
    return found


def random_like(model, draw):
    return jax.tree.map(lambda p: jnp.asarray(draw.normal(size=p.shape), jnp.float32), model)


@pytest.mark.parametrize("config", [GPT2, CNN], ids=["gpt2", "gated_cnn"])
def test_an_update_is_near_the_polar_factor(config):
    """Of the SVD in float64: the same singular vectors, singular values near 1, Newton and Schulz's band."""
    model, draw = new_model(config, jax.random.key(0)), np.random.default_rng(0)
    tx = make_optimizer(dataclasses.replace(CONFIG, weight_decay=0.0), -1.0)
    updates, _ = jax.jit(tx.update)(grads := random_like(model, draw), tx.init(model), model)
    updates = matrices(updates)
    for name, gradient in matrices(grads).items():
        u, s, vt = np.linalg.svd(np.float64(gradient), full_matrices=False)
        got = u.T @ updates[name] @ vt.T / (RMS * max(gradient.shape) ** 0.5)
        clear = s / np.linalg.norm(s) > 0.02  # the iteration raises smaller ones by less
        assert clear.sum() >= len(s) - 1
        assert np.all((np.diag(got)[clear] > 0.65) & (np.diag(got)[clear] < 1.25)), name
        np.testing.assert_allclose(got - np.diag(np.diag(got)), 0, atol=1e-4)
    assert len(updates) == {GPT2: 2 * 6, CNN: 2 * 6}[config]


def test_steps_equal_pytorch():
    """Jordan's muon.py, transcribed to float32 and with optax's bias correction, for a matrix of a layer at a time."""
    torch = pytest.importorskip("torch")
    model, draw = new_model(GPT2, jax.random.key(0)), np.random.default_rng(0)
    grads = [random_like(model, draw) for _ in range(STEPS)]
    tx, got = make_optimizer(CONFIG, LR), model
    state, update = tx.init(model), jax.jit(tx.update)
    for g in grads:
        updates, state = update(g, state, got)
        got = jax.tree.map(jnp.add, got, updates)

    def orthogonalize(g):
        a, b, c = 3.4445, -4.7750, 2.0315
        x = g.T if g.shape[0] > g.shape[1] else g
        x = x / (x.norm() + 1e-8)
        for _ in range(5):
            square = x @ x.T
            x = a * x + (b * square + c * square @ square) @ x
        return x.T if g.shape[0] > g.shape[1] else x

    for name, start in matrices(model).items():
        p, momentum = torch.tensor(start), torch.zeros(start.shape)
        for t, g in enumerate([torch.tensor(matrices(each)[name]) for each in grads], start=1):
            momentum.lerp_(g, 1 - BETA)
            nesterov = BETA * momentum / (1 - BETA ** (t + 1)) + (1 - BETA) * g / (1 - BETA**t)
            p.mul_(1 - LR * DECAY).sub_(LR * 0.2 * max(p.shape) ** 0.5 * orthogonalize(nesterov))
        np.testing.assert_allclose(matrices(got)[name], p, atol=1e-5, err_msg=str(name))


def test_all_else_is_adamws():
    model, draw = new_model(GPT2, jax.random.key(0)), np.random.default_rng(0)
    grads, both = random_like(model, draw), []
    for config in (CONFIG, dataclasses.replace(CONFIG, optimizer="adamw")):
        tx = make_optimizer(config, LR)
        both.append(jax.jit(tx.update)(grads, tx.init(model), model)[0])
    for (path, a), b in zip(jax.tree_util.tree_leaves_with_path(both[0]), jax.tree.leaves(both[1]), strict=True):
        name = jax.tree_util.keystr(path)
        assert np.array_equal(a, b) != (name.startswith(".h.") and ".kernel" in name), name
