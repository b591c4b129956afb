"""Models and train states, traced once for each configuration in a process."""

from pathlib import Path

import jax

from jaxgpt.models.base import build
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.training.step import init_state

new_model = jax.jit(build, static_argnames="config")  # (config, key)
new_state = jax.jit(init_state, static_argnames=("config", "tx"))  # (key, *, config, tx)
forward = jax.jit(lambda model, tokens: model(tokens))


def write_gpt2(folder: Path, config: GPT2Config) -> Path:
    """Write a model in Hugging Face's layout, whose weights are larger than at the start of a run."""
    model = new_model(config, jax.random.key(0))
    save_hf(jax.tree.map(lambda leaf: leaf + 0.1 * jax.random.normal(jax.random.key(1), leaf.shape), model), folder)
    return folder
