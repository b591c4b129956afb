"""Models and train states, traced once for each configuration in a process."""

import jax

from jaxgpt.models.base import build
from jaxgpt.training.step import init_state

new_model = jax.jit(build, static_argnames="config")  # (config, key)
new_state = jax.jit(init_state, static_argnames=("config", "tx"))  # (key, *, config, tx)
forward = jax.jit(lambda model, tokens: model(tokens))
