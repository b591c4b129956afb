"""Muon for the weight matrices of the layers, by optax.contrib; Adam for embeddings, heads, biases and norms.

Jordan et al. (2024), "Muon: An optimizer for hidden layers in neural networks": the update is the momentum of a matrix
with all of its singular values brought near 1. Liu et al. (2025), "Muon is Scalable for LLM Training", section 2.2:
scaled to the root mean square of AdamW's updates, so that it takes AdamW's learning rate and weight decay.
"""

from typing import Any

import jax
import jax.numpy as jnp
import optax

from jaxgpt.models.base import Model

RMS = 0.2  # of an update's entries: what AdamW's have


def muon(beta: float, others: optax.GradientTransformation) -> optax.GradientTransformationExtraArgs:
    """The updates before weight decay and the learning rate.

    Args:
      beta: decay rate of the momentum, which is Nesterov's with the bias correction of optax.
      others: what updates all but the matrices.
    """
    return optax.partition({"muon": _scale_by_muon(beta), "others": others}, _labels)


def _labels(params: Model) -> Any:
    """Which transformation updates each parameter."""

    def label(path: tuple, leaf: jax.Array) -> str:
        names = [key.name for key in path if hasattr(key, "name")]
        return "muon" if names[0] in params.STACKS and names[-2] == "kernel" else "others"

    return jax.tree_util.tree_map_with_path(label, params)


def _scale_by_muon(beta: float) -> optax.GradientTransformationExtraArgs:
    """optax.contrib.scale_by_muon on each matrix of each layer alone; it can skip a step, as optimizer.adam."""
    tx = optax.contrib.scale_by_muon(beta=beta, weight_dimension_numbers=_last_two_axes)

    def update(grads: Any, state: Any, params: Any = None, *, is_finite: Any = True, **_: Any) -> Any:
        # The state keeps the shapes of the parameters, by whose axes devices share it.
        updates, new = tx.update(_split(grads), state._replace(mu=_split(state.mu)))
        mu = jax.tree.map(lambda new, old: jnp.where(is_finite, new, old), _join(new.mu, state.mu), state.mu)
        updates = jax.tree.map(lambda u: RMS * max(u.shape[-2:]) ** 0.5 * u, updates)
        return _join(updates, grads), new._replace(mu=mu)

    return optax.GradientTransformationExtraArgs(tx.init, update)


def _last_two_axes(tree: Any) -> Any:
    return jax.tree.map(lambda _: optax.contrib.MuonDimensionNumbers(-2, -1), tree)


def _split(tree: Model) -> Model:
    """Kernels that are n side by side, (L, in, n * out) by the model's FUSED, as (L, n, in, out)."""

    fused = getattr(tree, "FUSED", {})

    def split(path: tuple, leaf: jax.Array) -> jax.Array:
        L, n_in, columns = leaf.shape
        n = next((fused[key.name] for key in path if getattr(key, "name", "") in fused), 1)
        return leaf.reshape(L, n_in, n, columns // n).swapaxes(1, 2)

    return jax.tree_util.tree_map_with_path(split, tree)


def _join(tree: Model, like: Model) -> Model:
    return jax.tree.map(lambda leaf, like: leaf.swapaxes(1, 2).reshape(like.shape), tree, like)
