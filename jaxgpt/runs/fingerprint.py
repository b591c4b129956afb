"""A number for the bits of every array, by which a checkpoint is verified and two runs are compared."""

from typing import Any

import jax
import jax.numpy as jnp

GOLDEN = 0x9E3779B9  # odd, so that no two of 2**32 elements share a place
PARTS, LARGE = 8, 2**16  # of an array with at least so many elements


def fingerprint(tree: Any) -> jax.Array:
    """A number for each leaf, in the order of jax.tree.leaves: uint32 (leaves,).

    Every element's bits are mixed with its place, and the results are added modulo 2**32. Integer sums have no order,
    so that the number of devices or threads changes nothing. One changed element always changes its leaf's number,
    since for a place the mixing is one to one; more changes, or two elements swapped, do but for one case in 2**32.
    """
    leaves = jax.tree.leaves(tree)
    if _are_on_one_cpu(leaves):  # which runs a program for each leaf at once, on all its cores
        return _stack([_hash_parts(leaf) if leaf.size >= LARGE else _hash(leaf) for leaf in leaves])
    return _hash_all(leaves)  # one program: of several with collectives, each may wait for a thread that another has


def combined_fingerprint(tree: Any) -> jax.Array:
    """One number for a tree, uint32 ()."""
    return _hash(fingerprint(tree))


def fingerprints_by_name(tree: Any) -> dict[str, str]:
    """The fingerprint of each leaf under its path, as eight hexadecimal digits."""
    numbers = jax.device_get(fingerprint(tree))
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    paths = [jax.tree_util.keystr(path).removesuffix(".value") for path, _ in leaves]  # which is Flax's affair
    return {path: f"{number:08x}" for path, number in zip(paths, numbers, strict=True)}


_stack = jax.jit(jnp.stack)


def _are_on_one_cpu(leaves: list[Any]) -> bool:
    if not all(isinstance(leaf, jax.Array) for leaf in leaves):  # numpy's, which are small
        return False
    return [device.platform for device in set().union(*(leaf.devices() for leaf in leaves))] == ["cpu"]


@jax.jit
def _hash(x: jax.Array) -> jax.Array:
    index = jnp.zeros(x.shape, jnp.uint32)  # row-major; made by axis, so that a sharded array stays where it is
    for axis, size in enumerate(x.shape):
        index = index * jnp.uint32(size) + jax.lax.broadcasted_iota(jnp.uint32, x.shape, axis)
    return _mix(_bits(x), index).sum(dtype=jnp.uint32)


@jax.jit
def _hash_all(leaves: list[jax.Array]) -> jax.Array:
    return jnp.stack([_hash(leaf) for leaf in leaves])


@jax.jit
def _hash_parts(x: jax.Array) -> jax.Array:
    """As _hash, three times as fast on a CPU, where XLA adds arrays by vectors, but the elements of one singly."""
    bits, size = _bits(x).reshape(-1), x.size // PARTS
    starts = [*range(0, PARTS * size, size), PARTS * size]
    *parts, rest = [
        _mix(part, start + jax.lax.iota(jnp.uint32, part.size))
        for start, part in zip(starts, jnp.split(bits, starts[1:]), strict=True)
    ]
    return sum(parts).sum(dtype=jnp.uint32) + rest.sum(dtype=jnp.uint32)


def _bits(x: jax.Array) -> jax.Array:
    width = (jnp.finfo if jnp.issubdtype(x.dtype, jnp.inexact) else jnp.iinfo)(x.dtype).bits
    return jax.lax.bitcast_convert_type(x, jnp.dtype(f"uint{width}")).astype(jnp.uint32)


def _mix(bits: jax.Array, index: jax.Array) -> jax.Array:
    # The finalizer of MurmurHash3 (Appleby, public domain): each line is one to one on 32 bits.
    z = bits + index * jnp.uint32(GOLDEN)
    z = (z ^ (z >> 16)) * jnp.uint32(0x85EBCA6B)
    z = (z ^ (z >> 13)) * jnp.uint32(0xC2B2AE35)
    return z ^ (z >> 16)
