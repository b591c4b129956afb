"""The same weights as another model: of another dtype, attention or padding."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxgpt.model import GPT2
from jaxgpt.shape import GPT2Config


def with_config(model: GPT2, config: GPT2Config) -> GPT2:
    """The same weights in a model of another dtype, attention, unroll or padding of the vocabulary."""
    V, like = config.vocab_size, jax.eval_shape(lambda: GPT2(config, jax.random.key(0)))
    leaves = [
        leaf if leaf.shape == to.shape else _whole_gradient(jnp.pad(leaf[:V], ((0, to.shape[0] - V), (0, 0))))
        for leaf, to in zip(jax.tree.leaves(model), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def aligned(model: GPT2) -> GPT2:
    """The same model for the loss on a GPU in bfloat16: with rows of zeros, the token embedding's are a multiple of 8.

    Else XLA pads them itself for the head's products, and then copies the gradient without the padding.
    """
    if model.config.attention != "cudnn" or model.config.padded_vocab_size % 8 == 0:
        return model
    return with_config(model, dataclasses.replace(model.config, pad_vocab_to_multiple_of=8))


@jax.custom_vjp
def _whole_gradient(x: jax.Array) -> jax.Array:
    """x; its gradient is finished before anything else is made of it, which otherwise XLA does first."""
    return x


_whole_gradient.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.optimization_barrier(g),))
