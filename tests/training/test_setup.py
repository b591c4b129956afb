import contextlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.data.text import Text
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training import setup
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.setup import build_trainer
from jaxgpt.training.step import FrozenInputs

FLAGS = {"n_layer": 1, "n_head": 2, "n_embd": 8, "block_size": 16, "T": 16, "B": 1}


def test_what_the_flags_make():
    flags = TrainConfig.of(**FLAGS, accumulate=2, lr=0.5, schedule="cosine", steps=4, dtype="bfloat16", device="cpu")
    trainer = build_trainer(flags)
    assert (trainer.model.n_embd, trainer.model.dtype, trainer.model.attention) == (8, "bfloat16", "xla")
    np.testing.assert_allclose([trainer.schedule(0), trainer.schedule(4)], [0.5, 0.05])
    state = trainer.init_state(seed=0)
    leaves, like = jax.tree.leaves(state), jax.tree.leaves(trainer.shapes)
    assert [(leaf.shape, leaf.dtype) for leaf in leaves] == [(leaf.shape, leaf.dtype) for leaf in like]
    data = Text("", np.arange(40, dtype=np.uint16), "", B=2, T=16)  # accumulate * B sequences
    before = state.model.wte.embedding[...].copy()
    state, metrics = trainer.step(state, data.batch(0)[0], FrozenInputs())
    assert state.step == 1 and metrics["loss"] > 0
    assert jnp.abs(state.model.wte.embedding[...] - before).max() == pytest.approx(0.5, rel=0.02)  # Adam's first step


@pytest.mark.parametrize(
    "message, known",
    [("RESOURCE_EXHAUSTED: Out of memory", True), ("Invalid dimension size -1881073596", True), ("another", False)],
)
def test_what_xla_has_no_plan_for_does_not_fit(message, known, monkeypatch):
    def fail(*_):
        raise RuntimeError(message)

    monkeypatch.setattr(setup, "compile_step", fail)
    with contextlib.nullcontext() if known else pytest.raises(RuntimeError, match=message):
        assert setup.step_memory(TrainConfig.of(**FLAGS), setup.single_device()) is None


def test_a_seed_is_its_weights():
    trainer = build_trainer(TrainConfig.of(**FLAGS))
    a, b, other = (trainer.init_state(seed).model.wte.embedding[...] for seed in (3, 3, 4))
    assert np.array_equal(a, b) and not np.array_equal(a, other)


def test_given_weights_come_first(tmp_path):
    preset = TrainConfig.from_preset(Preset(size="tiny"))
    model = build_trainer(preset).init_state(seed=5).model
    save_hf(model, tmp_path / "weights")
    state = build_trainer(preset).init_state(seed=0, weights=resolve_weights(tmp_path / "weights"))
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(state.model), jax.tree.leaves(model), strict=True))
    assert state.step == 0 and not any(np.asarray(leaf).any() for leaf in jax.tree.leaves(state.opt_state))
