import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgpt.models.base import architecture, shapes, unembed
from jaxgpt.models.configs import CONFIGS
from tests.support.models import new_model


@pytest.mark.parametrize("arch", CONFIGS)
def test_a_config_makes_the_model_of_its_file(arch):
    """A Model: float32 parameters, its config, and logits of what `hidden` gives; it can be asked for shapes alone."""
    config = CONFIGS[arch](vocab_size=61, block_size=16, n_layer=2, n_embd=24, pad_vocab_to_multiple_of=8)
    model = new_model(config, jax.random.key(0))
    assert isinstance(model, architecture(config).MODEL) and model.config == config
    like = shapes(config)
    assert jax.tree.structure(like) == jax.tree.structure(model)
    assert [leaf.shape for leaf in jax.tree.leaves(like)] == [leaf.shape for leaf in jax.tree.leaves(model)]
    assert {str(leaf.dtype) for leaf in jax.tree.leaves(model)} == {"float32"}
    hidden = model.hidden(np.zeros((2, 7), np.int32))
    assert hidden.shape == (2, 7, 24) and model.unembedding().shape == (64, 24)
    logits = np.asarray(unembed(model, hidden))
    expected = np.asarray(hidden) @ np.asarray(model.unembedding()).T
    np.testing.assert_allclose(logits[..., :61], expected[..., :61], atol=1e-5)
    assert np.isneginf(logits[..., 61:]).all()


def test_configs_do_not_import_jax():
    code = "import sys, jaxgpt.models.configs; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
