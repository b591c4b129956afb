"""Many devices: the mesh, what each device holds of the state and of a batch, and how a step adds up over all of them.

Each device runs the model on its own sequences, as if it were alone; this file adds the communication between them.
A mesh has two axes. Along `data` the devices hold the same parameters; along `fsdp` each holds a share of them and of
the optimizer's moments (Rajbhandari et al., 2020, "ZeRO"). Within a step every device has all parameters, those that
products read in the compute dtype, and with --accumulate the full gradient. All devices share a batch's sequences.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from jaxgpt.errors import UsageError
from jaxgpt.models.base import REPLICATED, Rule, Rules
from jaxgpt.runtime.config import mesh_flag, require_divisible

AXES = ("data", "fsdp")

ROWS = PartitionSpec(AXES)  # of a batch: the sequences, in equal parts


def choose_axes(
    axes: dict[str, int] | None, B: int, widths: Mapping[str, int], needed: int, memory: float, devices: int
) -> dict[str, int]:
    """The axes that --mesh names; for auto, all devices on data, or on fsdp if state and gradient don't fit into one.

    A single process leaves out devices for which there is no equal share.

    Args:
      axes: what --mesh names; None: auto.
      B: sequences of a batch.
      widths: of the model, by flag, which fsdp must divide.
      needed: bytes of the state and a gradient.
      memory: bytes of a device.
      devices: how many there are.

    Raises:
      UsageError: there are no equal shares of a batch or of the width.
    """
    if axes is not None:
        return axes
    axis = "data" if needed <= memory else "fsdp"
    width = math.gcd(*widths.values())  # what divides it divides all
    while jax.process_count() == 1 and (B % devices or (axis == "fsdp" and width % devices)):
        devices -= 1
    require_divisible({axis: devices}, B, widths)
    return {axis: devices}


def make_mesh(axes: dict[str, int], devices: Sequence[jax.Device]) -> Mesh:
    """A mesh of the first of these devices; those of a process are next to each other.

    Raises:
      UsageError: there are not so many, or several processes have more.
    """
    shape = tuple(axes.get(name, 1) for name in AXES)
    needed_devices, n_devices = math.prod(shape), len(devices)
    if needed_devices > n_devices or (needed_devices < n_devices and jax.process_count() > 1):
        hint = "" if needed_devices > n_devices else ", which all have to take part"
        raise UsageError(f"--mesh {mesh_flag(axes)} needs {needed_devices} devices, and there are {n_devices}{hint}")
    return Mesh(np.array(devices[:needed_devices]).reshape(shape), AXES)


def single_device() -> Mesh:
    """The mesh of the selected device."""
    return make_mesh({}, jax.local_devices()[:1])


def with_shardings(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    """Shapes and dtypes of a state or a part of it, each leaf with the NamedSharding that the rules give it."""

    def add_sharding(path: tuple, leaf: Any) -> jax.ShapeDtypeStruct:
        sharding = NamedSharding(mesh, _spec(path, leaf, mesh, rules))
        return jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=sharding)

    return jax.tree_util.tree_map_with_path(add_sharding, tree)


def shardings(tree: Any) -> Any:
    return jax.tree.map(lambda leaf: leaf.sharding, tree)


def device_bytes(tree: Any) -> int:
    """The bytes that one device holds of some arrays, or of what `with_shardings` gives."""
    leaves = jax.tree.leaves(tree)
    return sum(math.prod(leaf.sharding.shard_shape(leaf.shape)) * leaf.dtype.itemsize for leaf in leaves)


def batch_sharding(mesh: Mesh) -> NamedSharding:
    """Where the sequences of a batch are, (B, ...): in equal parts on all devices, in their order."""
    return NamedSharding(mesh, ROWS)


def local_rows(sharding: NamedSharding, B: int) -> slice:
    """Which of B sequences are those of this process's devices."""
    index = [rows for rows, *_ in sharding.addressable_devices_indices_map((B,)).values()]
    bounds = [rows.indices(B)[:2] for rows in index]
    return slice(min(first for first, _ in bounds), max(end for _, end in bounds))


def sharded_loss_and_grads(loss_and_grads: Callable, mesh: Mesh, dtype: str, rules: Rules) -> Callable:
    """step.loss_and_grads over a mesh: each device's of its own sequences, added up.

    Parameters come together before, and gradients are added after all parts of the batch: each crosses the wires once a
    step, however many parts there are. Those of a layer go alone, so that XLA can move them while it computes others.

    Args:
      loss_and_grads: step.loss_and_grads.
      dtype: the compute dtype.
      rules: SHARDING_RULES of the model's architecture.
    """
    if mesh.size == 1:
        return loss_and_grads

    def over_mesh(
        model: Any, batch: dict[str, jax.Array], objective: Any, accumulate: int = 1, base: Any = None, keys: Any = None
    ) -> tuple:
        def on_device(model: Any, base: Any, batch: dict[str, jax.Array], keys: jax.Array | None) -> tuple:
            model, base = (_all_gather_params(part, mesh, dtype, rules) for part in (model, base))
            metrics, grads = loss_and_grads(model, batch, objective, accumulate, base, keys)
            return jax.lax.psum(metrics, AXES), _reduce_grads(grads, mesh, rules)

        inputs = _specs(model, mesh, rules), _specs(base, mesh, rules), ROWS, ROWS
        outputs = PartitionSpec(), _specs(model, mesh, rules)
        run = jax.shard_map(on_device, mesh=mesh, in_specs=inputs, out_specs=outputs, check_vma=False)
        return run(model, base, batch, keys)

    return over_mesh


def sharded_measure(measure: Callable, mesh: Mesh, dtype: str, rules: Rules) -> Callable:
    """`measure(model, batch)`, which sums over a batch, over a mesh: each device's of its own sequences, added up."""
    if mesh.size == 1:
        return measure

    def over_mesh(model: Any, batch: dict[str, jax.Array]) -> Any:
        def on_device(model: Any, batch: dict[str, jax.Array]) -> Any:
            return jax.lax.psum(measure(_all_gather_params(model, mesh, dtype, rules), batch), AXES)

        inputs = _specs(model, mesh, rules), ROWS
        run = jax.shard_map(on_device, mesh=mesh, in_specs=inputs, out_specs=PartitionSpec(), check_vma=False)
        return run(model, batch)

    return over_mesh


def sharded_rows(function: Callable, mesh: Mesh, dtype: str, rules: Rules) -> Callable:
    """`function(model, batch)`, numbers of each sequence, over a mesh: all devices get those of all, in their order."""
    if mesh.size == 1:
        return function

    def over_mesh(model: Any, batch: dict[str, jax.Array]) -> jax.Array:
        def on_device(model: Any, batch: dict[str, jax.Array]) -> jax.Array:
            values = function(_all_gather_params(model, mesh, dtype, rules), batch)
            return jax.lax.all_gather(values, AXES, axis=0, tiled=True)

        inputs = _specs(model, mesh, rules), ROWS
        run = jax.shard_map(on_device, mesh=mesh, in_specs=inputs, out_specs=PartitionSpec(), check_vma=False)
        return run(model, batch)

    return over_mesh


def _all_gather_params(model: Any, mesh: Mesh, dtype: str, rules: Rules) -> Any:
    """The full parameters, gathered from the shares of an fsdp group; those that products read have dtype `dtype`."""

    def all_gather(x: jax.Array, axis: int | None, dtype_on_wire: str) -> jax.Array:
        if axis is None:
            return x
        shard = x.astype(dtype if dtype_on_wire == "compute" else x.dtype)
        return jax.lax.all_gather(shard, "fsdp", axis=axis % x.ndim, tiled=True).astype(x.dtype)

    return model if mesh.shape["fsdp"] == 1 else _by_layer(all_gather, model, rules)


def _reduce_grads(grads: Any, mesh: Mesh, rules: Rules) -> Any:
    """The sums of all devices' gradients, in float32; each device gets its share of the parameter's."""
    if mesh.shape["fsdp"] == 1:
        return _by_layer(lambda g, axis, dtype_on_wire: jax.lax.psum(g, AXES), grads, rules)

    def reduce_scatter(g: jax.Array, axis: int | None, dtype_on_wire: str) -> jax.Array:
        if axis is None:
            return jax.lax.psum(g, AXES)
        return jax.lax.psum_scatter(g, "fsdp", scatter_dimension=axis % g.ndim, tiled=True)

    def reduce_over_data(path: tuple, g: jax.Array) -> jax.Array:  # not by layer: of shares, few large sums are faster
        return g if _rule(path, rules)[0] is None else jax.lax.psum(g, "data")

    return jax.tree_util.tree_map_with_path(reduce_over_data, _by_layer(reduce_scatter, grads, rules))


def _by_layer(function: Callable[[jax.Array, int | None, str], jax.Array], tree: Any, rules: Rules) -> Any:
    """Apply `function` to every leaf and its rule; for a stack of kernels, to every layer."""

    def leaf(path: tuple, x: jax.Array) -> jax.Array:
        rule = _rule(path, rules)
        return jnp.stack([function(layer, *rule) for layer in x]) if x.ndim == 3 else function(x, *rule)

    return jax.tree_util.tree_map_with_path(leaf, tree)


def _specs(tree: Any, mesh: Mesh, rules: Rules) -> Any:
    return jax.tree_util.tree_map_with_path(lambda path, leaf: _spec(path, leaf, mesh, rules), tree)


def _spec(path: tuple, leaf: Any, mesh: Mesh, rules: Rules) -> PartitionSpec:
    axis, _ = _rule(path, rules)
    if axis is None or mesh.shape["fsdp"] == 1:
        return PartitionSpec()
    return PartitionSpec(*["fsdp" if n == axis % leaf.ndim else None for n in range(leaf.ndim)])


def _rule(path: tuple, rules: Rules) -> Rule:
    words = {getattr(key, "name", "") for key in path}
    return next((rule for word, rule in rules.items() if word in words), REPLICATED)
