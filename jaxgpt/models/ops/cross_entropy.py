"""The output matrix without its logits in memory: cross-entropy and log-likelihoods over chunks of the tokens."""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp

from jaxgpt.models.ops.matmul import product, times_transposed, transposed

CHUNK = 16384  # tokens whose logits exist at a time, 1.6 GB in bfloat16: as fast on a GPU as all of them at once

UNROLLED = 8  # chunks of which a GPU's program has no loop; more would make it long and slow to compile


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def cross_entropy(x: jax.Array, table: jax.Array, y: jax.Array, vocab_size: int, soft_cap: float = 0.0) -> jax.Array:
    """The sum of the next-token losses of `x @ table.T`, in nats, float32 ().

    The logits of a chunk have x's dtype; their softmax and the loss are float32. When a gradient is asked for, it is
    made beside the loss, chunk by chunk, so that the logits are computed once and never kept (as Hsu et al., 2024,
    "Liger Kernel", do for their fused linear cross-entropy).

    Args:
      x: (B, T, C), what the head reads.
      table: float32 (V, C), the output matrix; its rows from vocab_size on are padding, which has probability 0.
      y: int32 (B, T), the id that follows each token; one below 0 is not counted.
      vocab_size: how many ids there are.
      soft_cap: of the logits, as cap_logits has it.
    """
    table = table.astype(x.dtype)

    def add(total, part):
        x, y = part
        return total + _losses(_logits(x, table, vocab_size, soft_cap), y)[0], None

    return jax.lax.scan(add, jnp.float32(0), _chunks(x, y))[0]


def cap_logits(logits: jax.Array, soft_cap: float) -> jax.Array:
    """soft_cap * tanh(logits / soft_cap), so that none is beyond it (Bello et al., 2016); 0: no cap."""
    if not soft_cap:
        return logits
    return (soft_cap * jnp.tanh(logits.astype(jnp.float32) / soft_cap)).astype(logits.dtype)


def _forward(x, table, y, vocab_size, soft_cap):
    rows = table.astype(x.dtype)

    def chunk(part):
        x, y = part  # (B, t, C), (B, t)
        logits = _logits(x, rows, vocab_size, soft_cap)  # (N, V)
        total, highest, scale = _losses(logits, y)
        dx, dtable = _gradients(x, rows, y, logits, highest, scale, soft_cap)
        return total, dtable, dx

    total, dtable, dx = _add_up(chunk, _chunks(x, y))
    return total, (_joined(dx, x.shape[1]), dtable)


def _backward(vocab_size, soft_cap, gradients, g):
    dx, dtable = gradients
    return (g * dx).astype(dx.dtype), g * dtable, None


cross_entropy.defvjp(_forward, _backward)


@functools.partial(jax.custom_vjp, nondiff_argnums=(3, 4))
def log_likelihoods(x: jax.Array, table: jax.Array, y: jax.Array, vocab_size: int, soft_cap: float = 0.0) -> jax.Array:
    """The log-probability of each label by `x @ table.T`, in nats, float32 (B, T); 0 where y is below 0.

    For losses in which the weight of a token is known only when all log-probabilities are, such as those of whole
    answers. So the logits of a chunk are computed again for the gradient; cross_entropy, whose weights are all 1,
    computes them once. Arguments as there.
    """
    return _log_likelihoods(x, table, y, vocab_size, soft_cap)[0]


def _log_likelihoods(x, table, y, vocab_size, soft_cap):
    rows = table.astype(x.dtype)

    def chunk(part):
        x, y = part
        losses, highest, scale = _token_losses(_logits(x, rows, vocab_size, soft_cap), y)
        return None, None, tuple(each.reshape(y.shape) for each in (-losses, highest, scale))

    _, _, found = _add_up(chunk, _chunks(x, y))
    values, highest, scale = (_joined(each, x.shape[1]) for each in found)
    return values, (x, table, y, highest, scale)


def _log_likelihoods_backward(vocab_size, soft_cap, residuals, g):
    x, table, *_ = residuals
    rows = table.astype(x.dtype)

    def chunk(part):
        x, y, highest, scale, g = part
        highest, scale, g = (each.reshape(-1, 1) for each in (highest, scale, g))
        logits = _logits(x, rows, vocab_size, soft_cap)
        dx, dtable = _gradients(x, rows, y, logits, highest, scale, soft_cap, weights=-g)
        return None, dtable, dx

    _, _, y, highest, scale = residuals
    _, dtable, dx = _add_up(chunk, _chunks(x, y, highest, scale, g))
    return _joined(dx, x.shape[1]), dtable, None


log_likelihoods.defvjp(_log_likelihoods, _log_likelihoods_backward)


def _gradients(x, rows, y, logits, highest, scale, soft_cap, weights=None):
    """Of a chunk's losses, by x (B, t, C) and by the table, float32 (V, C); each loss times its weight, (N, 1)."""
    # By the logits. exp(logits - logarithm of the sum) would have that logarithm's rounding, tenfold.
    slope = jnp.exp(logits.astype(jnp.float32) - highest) / scale - _hits(logits, y)
    if soft_cap:  # the padding's -inf has the cap's slope, 0
        slope *= 1 - (jnp.maximum(logits.astype(jnp.float32), -soft_cap) / soft_cap) ** 2
    if weights is not None:
        slope *= weights
    slope = jnp.where(y.reshape(-1, 1) >= 0, slope, 0).astype(x.dtype)
    dx = product(slope, rows).astype(x.dtype).reshape(x.shape)
    return dx, product(transposed(slope), x.reshape(-1, x.shape[-1]), jnp.float32)


def _add_up(chunk: Callable, parts: tuple[jax.Array, ...]) -> tuple:
    """For chunk(part) = (total, table's gradient, values): the sums of the first two, and all values, (count, ...)."""

    def add(so_far, part):
        # A chunk begins when the one before it is done: otherwise XLA may hold the logits of all of them at once.
        so_far, part = jax.lax.optimization_barrier((so_far, part))
        total, dtable, values = chunk(part)
        total, values = jax.lax.optimization_barrier((total, values))  # the values are part of being done
        return jax.tree.map(jnp.add, so_far, (total, dtable)), values

    total, dtable, values = chunk(jax.tree.map(lambda part: part[0], parts))
    so_far = total, dtable
    values = jax.tree.map(lambda value: value[None], values)
    if len(parts[0]) > 1:
        rest = jax.tree.map(lambda part: part[1:], parts)
        loop = functools.partial(jax.lax.scan, add)
        # On a GPU a loop would break the program's one CUDA graph; on a CPU the barrier does nothing, and a loop does.
        unrolled = functools.partial(loop, unroll=True) if len(rest[0]) < UNROLLED else loop
        so_far, more = jax.lax.platform_dependent(so_far, rest, cpu=loop, default=unrolled)
        values = jax.tree.map(lambda first, rest: jnp.concatenate([first, rest]), values, more)
    return *so_far, values


def _joined(chunks: jax.Array, T: int) -> jax.Array:
    """(B, T, ...) of chunks, (count, B, t, ...)."""
    count, B, t, *rest = chunks.shape
    return chunks.swapaxes(0, 1).reshape(B, count * t, *rest)[:, :T]


def _chunks(x: jax.Array, y: jax.Array, *more: jax.Array) -> tuple[jax.Array, ...]:
    """(count, B, t, C) and (count, B, t): along T, so that every device keeps its own rows of B."""
    B, T, _ = x.shape
    t = -(-T // min(T, -(-B * T // CHUNK)))
    count, missing = -(-T // t), -T % t

    def cut(array: jax.Array, filling: int = 0) -> jax.Array:
        widths = [(0, 0), (0, missing)] + [(0, 0)] * (array.ndim - 2)
        array = jnp.pad(array, widths, constant_values=filling)
        return array.reshape(B, count, -1, *array.shape[2:]).swapaxes(0, 1)

    return cut(x), cut(y, -1), *map(cut, more)


def _logits(x: jax.Array, table: jax.Array, vocab_size: int, soft_cap: float) -> jax.Array:
    logits = cap_logits(times_transposed(x.reshape(-1, x.shape[-1]), table), soft_cap)  # (N, V)
    if table.shape[0] == vocab_size:
        return logits
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1)
    return jnp.where(ids < vocab_size, logits, -jnp.inf)


def _losses(logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """The sum of the losses, and what _token_losses has beside them."""
    losses, highest, scale = _token_losses(logits, y)
    return losses.sum(), highest, scale


def _token_losses(logits: jax.Array, y: jax.Array) -> tuple[jax.Array, jax.Array, jax.Array]:
    """Each row's loss, its highest logit and the sum of exp(logit - highest), all float32 (N, 1)."""
    hits, logits = _hits(logits, y), logits.astype(jnp.float32)
    highest = logits.max(-1, keepdims=True)
    scale = jnp.exp(logits - highest).sum(-1, keepdims=True)
    label = jnp.where(hits, logits, 0).sum(-1, keepdims=True)
    losses = jnp.log(scale) + (highest - label)
    return jnp.where(y.reshape(-1, 1) >= 0, losses, 0), highest, scale


def _hits(logits: jax.Array, y: jax.Array) -> jax.Array:
    """Where the label of each row is, bool (N, V).

    An indexed read of the label would have a scatter as its gradient, and on a mesh it would ask other devices.
    """
    return jax.lax.broadcasted_iota(jnp.int32, logits.shape, 1) == y.reshape(-1, 1)
