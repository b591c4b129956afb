"""The two forms of ops.linear_recurrence with their gradients, one token after another and in a tree, in ms.

`python -m benchmarks.linear_recurrence`; the table is in docs/griffin.md.
"""

import functools
import time

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models.ops.linear_recurrence import in_a_tree, one_by_one

B, W, TIMES = 4, 256, 50


def with_gradient(run, a, b, g):
    """The states, and the gradients of a and b, as linear_recurrence has them."""
    h = run(a, b)
    db = run(jnp.pad(a[:, 1:], ((0, 0), (0, 1), (0, 0))), g, reverse=True)
    return h, db * jnp.pad(h[:, :-1], ((0, 0), (1, 0), (0, 0))), db


def shortest_ms(run, *inputs):
    step = jax.jit(functools.partial(with_gradient, run))
    times = []
    for _ in range(1 + TIMES):
        start = time.perf_counter()
        jax.block_until_ready(step(*inputs))
        times.append(time.perf_counter() - start)
    return 1e3 * min(times[1:])


if __name__ == "__main__":
    print(f"{jax.devices()[0].device_kind}, B {B}, width {W}, the shortest of {TIMES}, ms")
    print("| T | one by one | in a tree | tree / one by one |\n|---|---|---|---|")
    for T in (256, 2048):
        rng = np.random.default_rng(0)
        a, b, g = (
            jnp.asarray(x, jnp.float32) for x in (rng.uniform(0.8, 1, (B, T, W)), *rng.normal(size=(2, B, T, W)))
        )
        loop, tree = (shortest_ms(run, a, b, g) for run in (one_by_one, in_a_tree))
        print(f"| {T:,} | {loop:.2f} | {tree:.2f} | {tree / loop:.1f} |", flush=True)
