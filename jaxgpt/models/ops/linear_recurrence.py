"""A recurrence that is linear in its state, and its gradient, which is one too."""

import functools

import jax
import jax.numpy as jnp


@jax.custom_vjp
def linear_recurrence(a: jax.Array, b: jax.Array) -> jax.Array:
    """h_t = a_t * h_(t-1) + b_t, of h_(-1) = 0, elementwise; all float32 (B, T, W).

    A CPU takes token after token, which is the least work; other devices combine neighbours in a tree (Blelloch, 1990,
    "Prefix Sums and Their Applications"), in about 2 log2(T) rounds. docs/griffin.md has both times.
    """
    return _forward(a, b)[0]


def _forward(a: jax.Array, b: jax.Array) -> tuple[jax.Array, tuple[jax.Array, jax.Array]]:
    h = jax.lax.platform_dependent(a, b, cpu=one_by_one, default=in_a_tree)
    return h, (a, h)


def _backward(saved: tuple[jax.Array, jax.Array], g: jax.Array) -> tuple[jax.Array, jax.Array]:
    a, h = saved
    # A state reaches the loss by itself and by the next one: the same recurrence, from the last token to the first.
    a_next = jnp.pad(a[:, 1:], ((0, 0), (0, 1), (0, 0)))
    run = functools.partial(jax.lax.platform_dependent, cpu=functools.partial(one_by_one, reverse=True))
    db = run(a_next, g, default=functools.partial(in_a_tree, reverse=True))
    return db * jnp.pad(h[:, :-1], ((0, 0), (1, 0), (0, 0))), db


linear_recurrence.defvjp(_forward, _backward)


def one_by_one(a: jax.Array, b: jax.Array, reverse: bool = False) -> jax.Array:
    """The recurrence by T steps, one after the other."""

    def step(h: jax.Array, inputs: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        h = inputs[0] * h + inputs[1]
        return h, h

    by_time = a.swapaxes(0, 1), b.swapaxes(0, 1)
    _, h = jax.lax.scan(step, jnp.zeros_like(b[:, 0]), by_time, reverse=reverse)
    return h.swapaxes(0, 1)


def in_a_tree(a: jax.Array, b: jax.Array, reverse: bool = False) -> jax.Array:
    """The recurrence by about 2 log2(T) rounds, each over many tokens at once."""

    def join(first: tuple[jax.Array, jax.Array], second: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
        return first[0] * second[0], second[0] * first[1] + second[1]

    return jax.lax.associative_scan(join, (a, b), reverse=reverse, axis=1)[1]
