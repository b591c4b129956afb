import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.ops.linear_recurrence import in_a_tree, linear_recurrence, one_by_one

rng = np.random.default_rng(0)
A, B, G = (rng.uniform(size=(2, 13, 5)), *rng.normal(size=(2, 2, 13, 5)))


def by_hand(a, b):
    h, state = np.zeros_like(b), 0
    for t in range(b.shape[1]):
        state = a[:, t] * state + b[:, t]
        h[:, t] = state
    return h


@pytest.mark.parametrize("run", [linear_recurrence, one_by_one, in_a_tree])
def test_every_state_is_that_of_a_loop_in_float64(run):
    for T in (1, 13):
        a, b = A[:, :T], B[:, :T]
        np.testing.assert_allclose(jax.jit(run)(a.astype(np.float32), b.astype(np.float32)), by_hand(a, b), atol=1e-6)
    if run is not linear_recurrence:
        backward = jax.jit(functools.partial(run, reverse=True))(A.astype(np.float32), B.astype(np.float32))
        np.testing.assert_allclose(backward, by_hand(A[:, ::-1], B[:, ::-1])[:, ::-1], atol=1e-6)


def test_the_gradient_is_the_slope():
    """By differences in float64: each number's own effect on the sum of G times all states."""
    ours = jax.jit(jax.grad(lambda a, b: (jnp.float32(G) * linear_recurrence(a, b)).sum(), argnums=(0, 1)))
    for i, found in enumerate(ours(A.astype(np.float32), B.astype(np.float32))):
        slope = np.zeros_like(A)
        for index in np.ndindex(*A.shape):
            step = np.zeros_like(A)
            step[index] = 1e-5
            up, down = ([A + sign * step, B] if i == 0 else [A, B + sign * step] for sign in (1, -1))
            slope[index] = (G * (by_hand(*up) - by_hand(*down))).sum() / 2e-5
        np.testing.assert_allclose(found, slope, atol=1e-5)
