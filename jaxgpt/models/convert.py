"""The same weights as another model: of another dtype, attention or padding, or with heads for more or fewer tokens."""

import dataclasses

import jax
import jax.numpy as jnp

from jaxgpt.models.base import Model, shapes
from jaxgpt.models.configs import ModelConfig


def with_config(model: Model, config: ModelConfig) -> Model:
    """The same weights in a model of another dtype, attention, unroll or padding of the vocabulary."""
    V, like = config.vocab_size, shapes(config)
    leaves = [
        leaf
        if leaf.shape == target.shape
        else _finish_gradient_first(jnp.pad(leaf[:V], ((0, target.shape[0] - V), (0, 0))))
        for leaf, target in zip(jax.tree.leaves(model), jax.tree.leaves(like), strict=True)
    ]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def with_n_heads(model: Model, n: int) -> Model:
    """The model with heads for n tokens: for one, an ordinary GPT-2 of the blocks that predict the next token.

    Existing heads stay. A new one begins as a copy of the first, as in Medusa (Cai et al., 2024): predicting the next
    token is a start for predicting a later one.
    """
    config = model.config
    if n == config.predict_tokens:
        return model
    leaves_by_path = dict(jax.tree_util.tree_leaves_with_path(model))
    source_heads = jnp.array([i if i < config.predict_tokens else 0 for i in range(1, n)], jnp.int32)
    blocks = zip(jax.tree_util.tree_leaves_with_path(model.h), jax.tree.leaves(model.heads()), strict=True)
    head_leaves = {path: leaf[source_heads] for (path, _), leaf in blocks}
    new_config = dataclasses.replace(config, n_layer=config.depth + n - 1, predict_tokens=n)

    def leaf(path: tuple, _: jax.ShapeDtypeStruct) -> jax.Array:
        return head_leaves[path[1:]] if path[0].name == "extra_heads" else leaves_by_path[path]

    return jax.tree_util.tree_map_with_path(leaf, shapes(new_config))


def pad_vocab_for_gpu(model: Model) -> Model:
    """The same model for the loss on a GPU in bfloat16: with rows of zeros, the token embedding's are a multiple of 8.

    Else XLA pads them itself for the head's products, and then copies the gradient without the padding.
    """
    if model.config.attention != "cudnn" or model.config.padded_vocab_size % 8 == 0:
        return model
    return with_config(model, dataclasses.replace(model.config, pad_vocab_to_multiple_of=8))


@jax.custom_vjp
def _finish_gradient_first(x: jax.Array) -> jax.Array:
    """x; its gradient is computed completely before anything uses it, which XLA would otherwise reorder."""
    return x


_finish_gradient_first.defvjp(lambda x: (x, None), lambda _, g: (jax.lax.optimization_barrier(g),))
