"""Shares of a logit: they add up to it, and each is what its part writes, in numpy."""

import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.inference.attribution import attribute_logit, total
from jaxgpt.inference.trace import trace
from tests.support.head_scores import make_model
from tests.support.models import forward


def test_the_shares_add_up_to_the_logit_and_each_is_what_its_part_writes():
    model, tokens = make_model(), jax.random.randint(jax.random.key(3), (20,), 0, 97)
    final, layers = jax.jit(trace)(model, tokens)
    logits = np.asarray(forward(model, tokens[None])[0])
    attribute = jax.jit(attribute_logit)
    for position, answer in ((19, 5), (7, 96)):
        shares = attribute(model, tokens, final, layers, position, answer)
        assert abs(total(shares) - logits[position, answer]) < 1e-4
        x = np.asarray(final[position], np.float64)

        def without(written, x=x, answer=answer):
            """The part of the logit that goes when this is taken off the stream, at the same scale."""
            written = np.asarray(written, np.float64)
            scaled = (written - written.mean()) / np.sqrt(x.var() + 1e-5) * np.asarray(model.ln_f.scale[...])
            return scaled @ np.asarray(model.wte.embedding[answer])

        kernel = np.asarray(model.h.attn.c_proj.kernel[1, 16:24])  # rows of head 2
        parts = [
            (shares.token, model.wte.embedding[tokens[position]]),
            (shares.position, model.wpe.embedding[position]),
            (shares.heads[1, 2], np.asarray(layers.heads[1, position, 2]) @ kernel),
            (shares.attention_biases[0], model.h.attn.c_proj.bias[0]),
            (shares.mlps[1], layers.mlps[1, position]),
        ]
        for share, written in parts:
            assert abs(float(share) - without(written)) < 1e-4
        assert jnp.abs(shares.heads).max() > 0.1
