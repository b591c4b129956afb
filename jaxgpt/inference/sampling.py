"""How the next token is sampled: temperature, top-k and top-p, none of which changes the compiled program."""

import collections
import dataclasses
import hashlib
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.errors import UsageError

SIGN = np.uint32(1 << 31)  # of a float32
SMALLEST = np.finfo(np.float32).smallest_normal  # devices take what is nearer to 0 as 0


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class SamplingParams:
    """How the next token is sampled, as arguments of the program: other values need no other program.

    Each is (), for all texts, or (B, 1), for texts that have their own.

    Attributes:
      temperature, top_k, top_p: float32, as in `generate`; where all tokens are allowed, top_k or top_p is inf.
      stop: int32, -1 for none.
    """

    temperature: jax.typing.ArrayLike
    top_k: jax.typing.ArrayLike
    top_p: jax.typing.ArrayLike
    stop: jax.typing.ArrayLike


def make_sampling_params(
    temperature: float = 1.0, top_k: int = 0, top_p: float = 1.0, stop: int | None = None
) -> SamplingParams:
    """The parameters that `generate` takes, checked and as arrays.

    Raises:
      UsageError: one of them is out of range.
    """
    if not 0 <= temperature < float("inf"):
        raise UsageError(f"temperature {temperature} is out of range: it must be a finite number, 0 or above")
    if top_k < 0:
        raise UsageError(f"top_k {top_k} is out of range: it must be at least 0")
    if not 0 < top_p <= 1:
        raise UsageError(f"top_p {top_p} is out of range: it must be above 0 and at most 1")
    return SamplingParams(  # a float32 can't hold what is beyond these bounds
        temperature=np.float32(min(temperature, 1e30)),
        top_k=np.float32(top_k or np.inf),
        top_p=np.float32(max(top_p, 1e-30) if top_p < 1 else np.inf),
        stop=np.int32(-1 if stop is None else stop),
    )


def prompt_keys(key: jax.Array, prompts: Sequence[Sequence[int]]) -> np.ndarray:
    """A random key for each prompt, uint32 (B, 2), as jax.random.key_data has it.

    It depends on the prompt and on how many equal ones are before it, and neither on its row nor on other prompts: in
    any batch and in any order a prompt gets the same text.
    """
    secret, counts, keys = np.asarray(jax.random.key_data(key)).tobytes(), collections.Counter(), []
    for prompt in prompts:
        ids = np.asarray(prompt, "<i8").tobytes()
        keys.append(hashlib.blake2b(ids, key=secret, salt=counts[ids].to_bytes(8, "little"), digest_size=8).digest())
        counts[ids] += 1
    return np.frombuffer(b"".join(keys), "<u4").reshape(-1, 2)


def sample_token(logits: jax.Array, sampling: SamplingParams, keys: jax.Array, num_new: jax.Array) -> jax.Array:
    """The next token of each text, int32 (B,).

    Args:
      logits: float32 (B, V).
      keys: (B,), one for each text.
      num_new: int32 (B,), how many new tokens each has.
    """
    is_sampled = jnp.asarray(sampling.temperature >= SMALLEST)  # () or (B, 1)

    def sample() -> jax.Array:
        # The highest is 0, so that no temperature can overflow.
        x = (logits - logits.max(-1, keepdims=True)) / jnp.where(is_sampled, sampling.temperature, 1)
        x = _keep_top(x, jnp.ones_like, sampling.top_k)
        x = _keep_top(x, jax.nn.softmax, sampling.top_p)
        drawn = first_argmax(jax.vmap(_add_gumbel)(jax.vmap(jax.random.fold_in)(keys, num_new), x))
        return jnp.where(is_sampled.reshape(-1), drawn, first_argmax(logits))

    return jax.lax.cond(is_sampled.any(), sample, lambda: first_argmax(logits))


def first_argmax(x: jax.Array) -> jax.Array:
    """As jnp.argmax(x, -1) of numbers, int32 (B,), several times as fast on a CPU, whose vectors have no index."""
    ids = jax.lax.broadcasted_iota(jnp.int32, x.shape, 1)
    return jnp.where(x == x.max(-1, keepdims=True), ids, x.shape[1] - 1).min(-1)


def _add_gumbel(key: jax.Array, x: jax.Array) -> jax.Array:
    """What jax.random.categorical takes the highest of."""
    return x + jax.random.gumbel(key, x.shape, x.dtype)


def _keep_top(x: jax.Array, weigh: Callable[[jax.Array], jax.Array], target: jax.Array) -> jax.Array:
    """The entries of mask_top, and -inf for others; no time is spent where all texts allow all tokens."""
    return jax.lax.cond(
        jnp.any(target < jnp.inf), lambda: jnp.where(mask_top(x, weigh(x), target), x, -jnp.inf), lambda: x
    )


def mask_top(x: jax.Array, weights: jax.Array, target: jax.Array) -> jax.Array:
    """Mask of the fewest highest entries of each row whose weights sum to `target` or more; equal ones stay together.

    All entries where no sum is enough. The lowest value to keep is found bit by bit, from the highest bit down:
    32 sums, where a CPU would sort the 50,257 logits of a row for much longer.

    Args:
      x, weights: float32 (B, V).
      target: float32 () or (B, 1).
    """
    bits = jax.lax.bitcast_convert_type(x, jnp.uint32)
    order = jnp.where(bits >= SIGN, ~bits, bits | SIGN)  # unsigned integers in the order of the floats

    def halve(i: jax.Array, lowest: jax.Array) -> jax.Array:
        higher = lowest | (SIGN >> i.astype(jnp.uint32))
        enough = jnp.where(order >= higher, weights, 0).sum(-1, keepdims=True) >= target
        return jnp.where(enough, higher, lowest)

    return order >= jax.lax.fori_loop(0, 32, halve, jnp.zeros((len(x), 1), jnp.uint32))
