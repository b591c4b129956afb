import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.data.loader import next_batch
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.runs.weights import find
from jaxgpt.training.config import Preset, TrainConfig
from jaxgpt.training.setup import training

FLAGS = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 16, "T": 16, "B": 1}


def test_what_the_flags_make():
    flags = TrainConfig(**FLAGS, accumulate=2, lr=0.5, schedule="cosine", steps=4, dtype="bfloat16", device="cpu")
    static = training(flags)
    assert (static.model.n_embd, static.model.dtype, static.model.attention) == (8, "bfloat16", "xla")
    np.testing.assert_allclose([static.schedule(0), static.schedule(4)], [0.5, 0.05])
    state = static.first_state(seed=0)
    leaves, like = jax.tree.leaves(state), jax.tree.leaves(static.shapes)
    assert [(leaf.shape, leaf.dtype) for leaf in leaves] == [(leaf.shape, leaf.dtype) for leaf in like]
    x, y, _ = next_batch(np.arange(40, dtype=np.uint16), 0, 2, 16)  # accumulate * B sequences
    before = state.model.wte.embedding[...].copy()
    state, metrics = static.step(state, (x, y))
    assert state.step == 1 and metrics["loss"] > 0
    assert jnp.abs(state.model.wte.embedding[...] - before).max() == pytest.approx(0.5, rel=0.02)  # Adam's first step


def test_a_seed_is_its_weights():
    static = training(TrainConfig(**FLAGS))
    a, b, other = (static.first_state(seed).model.wte.embedding[...] for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, other)


def test_given_weights_come_first(tmp_path):
    preset = TrainConfig.from_preset(Preset(size="tiny"))
    model = training(preset).first_state(seed=5).model
    save_hf(model, tmp_path / "weights")
    state = training(preset).first_state(seed=0, weights=find(tmp_path / "weights"))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(model), strict=True))
    assert state.step == 0 and not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt_state))
