import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AxisType, NamedSharding, PartitionSpec

from jaxgpt.runs.fingerprint import LARGE, combined_fingerprint, fingerprint, fingerprints_by_name


def in_numpy(x):
    """The same in whole numbers of any size, element by element."""
    total = 0
    for place, bits in enumerate(np.asarray(x).reshape(-1).view(f"uint{8 * x.dtype.itemsize}").tolist()):
        z = (bits + place * 0x9E3779B9) % 2**32
        z = (z ^ (z >> 16)) * 0x85EBCA6B % 2**32
        z = (z ^ (z >> 13)) * 0xC2B2AE35 % 2**32
        total += z ^ (z >> 16)
    return total % 2**32


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "int32", "uint8"])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (3, 5), (2, 3, 4), (LARGE // 8, 8), (LARGE + 7,)])
def test_is_the_sum_of_the_mixed_bits(dtype, shape):
    x = jnp.asarray(100 * np.random.default_rng(0).random(shape), dtype)
    assert int(fingerprint([x])[0]) == in_numpy(x)


def test_every_flipped_bit_changes_it():
    x = np.random.default_rng(0).standard_normal((4, 8), np.float32)
    seen = {int(fingerprint([x])[0])}
    for byte in range(x.nbytes):
        for bit in range(8):
            y = x.copy()
            y.reshape(-1).view(np.uint8)[byte] ^= 1 << bit
            seen.add(int(fingerprint([y])[0]))
    assert len(seen) == 1 + 8 * x.nbytes


def test_flips_that_a_plain_sum_would_not_see_change_it():
    x = np.random.default_rng(0).standard_normal((4, 8), np.float32)
    changes = (-x, x[::-1], x.T.reshape(4, 8), np.where(np.arange(8) < 2, -x, x), np.roll(x, 1))
    assert len({int(fingerprint([y])[0]) for y in (x, *changes)}) == 6
    assert int(fingerprint([np.float32(0.0)])[0]) != int(fingerprint([np.float32(-0.0)])[0])


def test_names_and_one_number_for_all():
    tree = {"a": jnp.arange(3), "b": [jnp.ones(2), jnp.zeros((), jnp.int32)]}
    names = fingerprints_by_name(tree)
    assert list(names) == ["['a']", "['b'][0]", "['b'][1]"]
    assert [int(number, 16) for number in names.values()] == fingerprint(tree).tolist()
    swapped = {"a": jnp.arange(3), "b": [jnp.zeros(2), jnp.ones((), jnp.int32)]}
    assert (
        int(combined_fingerprint(tree)) == in_numpy(np.asarray(fingerprint(tree))) != int(combined_fingerprint(swapped))
    )


def test_does_not_depend_on_how_an_array_lies_on_devices(eight_devices):
    x = np.random.default_rng(0).standard_normal((16, 24), np.float32)
    mesh = jax.make_mesh((4, 2), ("a", "b"), axis_types=(AxisType.Auto,) * 2, devices=eight_devices)
    specs = [(), ("a",), ("b", "a"), (None, ("a", "b")), (("b", "a"), None)]
    sharded = [jax.device_put(x, NamedSharding(mesh, PartitionSpec(*spec))) for spec in specs]
    assert {int(fingerprint([array])[0]) for array in sharded} == {int(fingerprint([x])[0])}
    # Run as 200 programs at once, their collectives would wait for each other's threads, until XLA aborts the process.
    assert set(fingerprint(sharded * 40).tolist()) == {int(fingerprint([x])[0])}
