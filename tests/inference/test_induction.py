"""Scores of heads, against TransformerLens' on the same weights."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.inference.induction import draw_repeated, head_scores
from tests.support.head_scores import make_model, repeated_tokens

# Printed by tests/support.head_scores.py, with transformer_lens 4.3.0.
SCORES = {
    "previous_token": [[0.111077, 0.112431, 0.119949, 0.11677], [0.117189, 0.119917, 0.127799, 0.117231]],
    "induction": [[0.059581, 0.057718, 0.057795, 0.059596], [0.0567, 0.055387, 0.057809, 0.058107]],
}


def test_scores_are_those_of_transformer_lens():
    scores = jax.jit(head_scores)(make_model(), jnp.asarray(repeated_tokens()))
    assert scores.keys() == SCORES.keys()
    for name, expected in SCORES.items():
        assert np.ptp(expected) > 0.004 and np.abs(scores[name] - np.array(expected)).max() < 1e-4


def test_random_sequences_are_repeated_and_fit():
    for block_size, T in ((1024, 50), (33, 16)):
        tokens = draw_repeated(np.array([3, 5, 8]), block_size)
        assert tokens.shape == (4, 2 * T) and tokens.dtype == np.int32
        assert (tokens[:, :T] == tokens[:, T:]).all() and {*tokens.ravel().tolist()} == {3, 5, 8}
    assert not np.array_equal(tokens, draw_repeated(np.array([3, 5, 8]), 33, seed=1))
