"""Which heads continue a repetition: scores of each head on random tokens that are repeated.

Olsson et al. (2022), "In-context Learning and Induction Heads"; the scores are those of TransformerLens' demos.
"""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.inference.trace import trace
from jaxgpt.models.gpt2 import GPT2

SEQUENCES, LENGTH = 4, 50  # random sequences, and how many tokens of each are repeated


def draw_repeated(pool: np.ndarray, block_size: int, seed: int = 0) -> np.ndarray:
    """Sequences of random tokens, each followed by itself, int32 (SEQUENCES, 2 T) with T = LENGTH or what fits.

    Args:
      pool: ids that are drawn from, each as often as another.
    """
    T = min(LENGTH, block_size // 2)
    once = np.random.default_rng(seed).choice(pool, (SEQUENCES, T))
    return np.concatenate([once, once], axis=1).astype(np.int32)


def head_scores(model: GPT2, tokens: jax.Array) -> dict[str, jax.Array]:
    """Two scores of each head from 0 to 1, float32 (L, H), means over tokens and sequences.

    `induction` is the attention that a token of the second copy pays to the one behind its first occurrence, t - T + 1;
    `previous_token` is what any token pays to the one before it, t - 1.

    Args:
      tokens: int (N, 2 T), of draw_repeated.
    """
    T = tokens.shape[1] // 2
    attention = jax.vmap(lambda text: trace(model, text)[1].attention)(tokens).mean(0)  # (L, H, 2T, 2T)

    def mean_attention(offset: int, first: int) -> jax.Array:
        """To the token at t + offset, over the tokens t from `first` on."""
        return jnp.diagonal(attention, offset, axis1=-2, axis2=-1)[..., first + offset :].mean(-1)

    return {"induction": mean_attention(1 - T, T), "previous_token": mean_attention(-1, 1)}
