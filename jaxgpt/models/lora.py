"""Low-rank adapters: the split of a model into trained adapters and frozen weights, and how the two are combined.

Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models". The adapters are part of the model's linear
layers (layers.Linear); here the tree is partitioned. A part has the model's structure, with None for the rest.
"""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from jaxgpt.models.base import Model, shapes

TRAINED = ("lora_a", "lora_b", "pooler", "score")  # what a model with adapters trains: the adapters, and a new head


def partition(model: Model) -> tuple[Model, Model | None]:
    """The trained part of a model, and the rest: (all, None), or with adapters (adapters and head, base)."""
    if not model.config.lora:
        return model, None
    trained = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if _is_trained(path) else None, model)
    base = jax.tree_util.tree_map_with_path(lambda path, leaf: None if _is_trained(path) else leaf, model)
    return trained, base


def combine(trained: Any, base: Any) -> Any:
    """The model of two parts."""
    if base is None:
        return trained
    return jax.tree.map(lambda a, b: b if a is None else a, trained, base, is_leaf=lambda leaf: leaf is None)


def with_base_weights(model: Model, weights: Model, head: Sequence[int] = ()) -> Model:
    """The model, or a part of one, with these weights; its adapters stay what they are.

    Args:
      head: the number that each of the model's labels has in the weights' head; empty: the model's head stays too.
    """
    weights_by_path = dict(jax.tree_util.tree_leaves_with_path(weights))

    def leaf(path: tuple, like: Any) -> Any:
        if head and path[0].name == "score":
            return weights_by_path[path][..., jnp.array(head)]
        if head and path[0].name == "pooler":
            return weights_by_path[path]
        return like if _is_trained(path) else weights_by_path[path]

    return jax.tree_util.tree_map_with_path(leaf, model)


def merge(model: Model) -> Model:
    """The same function without adapters: kernel + scale * lora_a @ lora_b, in float32."""
    config = dataclasses.replace(model.config, lora=0)
    weights_by_path = dict(jax.tree_util.tree_leaves_with_path(model))

    def leaf(path: tuple, like: Any) -> jax.Array:
        *parents, last, value = path
        a, b = (weights_by_path.get((*parents, type(last)(name), value)) for name in ("lora_a", "lora_b"))
        if a is None or last.name != "kernel":
            return weights_by_path[path]
        update = jnp.matmul(a, b, precision="highest")  # (L, in, out)
        return weights_by_path[path] + model.config.lora_alpha / model.config.lora * update

    return jax.tree_util.tree_map_with_path(leaf, shapes(config))


def _is_trained(path: tuple) -> bool:
    return any(key.name in TRAINED for key in path if hasattr(key, "name"))
