"""Low-rank adapters: what of a model is trained beside frozen weights, and how the two become one model again.

Hu et al. (2022), "LoRA: Low-Rank Adaptation of Large Language Models". The adapters are part of the model's linear
layers (layers.Linear); here the tree is parted. A part has the model's structure, with None in place of the rest.
"""

import dataclasses
from typing import Any

import jax
import jax.numpy as jnp

from jaxgpt.models.base import Model, shapes

NEW = ("lora_a", "lora_b", "score")  # what a model with adapters trains: they themselves, and a head that is new


def partition(model: Model) -> tuple[Model, Model | None]:
    """What of a model is trained, and the rest: (all, None), or with adapters (adapters and head, base)."""
    if not model.config.lora:
        return model, None
    trained = jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if _is_new(path) else None, model)
    base = jax.tree_util.tree_map_with_path(lambda path, leaf: None if _is_new(path) else leaf, model)
    return trained, base


def combine(trained: Any, base: Any) -> Any:
    """The model of two parts."""
    if base is None:
        return trained
    return jax.tree.map(lambda a, b: b if a is None else a, trained, base, is_leaf=lambda leaf: leaf is None)


def with_base_weights(model: Model, weights: Model) -> Model:
    """The model, or a part of one, with these weights; its adapters and its head stay what they are."""
    given = dict(jax.tree_util.tree_leaves_with_path(weights))
    return jax.tree_util.tree_map_with_path(lambda path, leaf: leaf if _is_new(path) else given[path], model)


def merge(model: Model) -> Model:
    """The same function without adapters: kernel + scale * lora_a @ lora_b, in float32."""
    config = dataclasses.replace(model.config, lora=0)
    given = dict(jax.tree_util.tree_leaves_with_path(model))

    def leaf(path: tuple, like: Any) -> jax.Array:
        *parents, last, value = path
        a, b = (given.get((*parents, type(last)(name), value)) for name in ("lora_a", "lora_b"))
        if a is None or last.name != "kernel":
            return given[path]
        added = jnp.matmul(a, b, precision="highest")  # (L, in, out)
        return given[path] + model.config.lora_alpha / model.config.lora * added

    return jax.tree_util.tree_map_with_path(leaf, shapes(config))


def _is_new(path: tuple) -> bool:
    return any(key.name in NEW for key in path if hasattr(key, "name"))
