"""Models and train states, traced once for each configuration in a process."""

from pathlib import Path

import jax
import numpy as np

from jaxgpt.models.base import build, shapes
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.training.step import init_state

new_model = jax.jit(build, static_argnames="config")  # (config, key)
new_state = jax.jit(init_state, static_argnames=("config", "tx"))  # (key, *, config, tx)
forward = jax.jit(lambda model, tokens: model(tokens))


def spread_model(config, spread=0.1):
    """A model whose parameters are so large that it has clear preferences."""
    model = new_model(config, jax.random.key(0))
    keys = iter(jax.random.split(jax.random.key(1), 100))
    return jax.tree.map(lambda leaf: leaf + spread * jax.random.normal(next(keys), leaf.shape), model)


def random_model(config, spread=0.3, seed=0):
    """A model of random numbers, without compiling anything; its parameters are numpy's."""
    draw = np.random.default_rng(seed).normal
    return jax.tree.map(lambda leaf: draw(0, spread, leaf.shape).astype(np.float32), shapes(config))


def write_gpt2(folder: Path, config: GPT2Config) -> Path:
    """Write a model in Hugging Face's layout, whose weights are larger than at the start of a run."""
    model = new_model(config, jax.random.key(0))
    save_hf(jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), model), folder)
    return folder
