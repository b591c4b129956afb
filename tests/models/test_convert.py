import dataclasses

import jax
import numpy as np

from jaxgpt.models.convert import pad_vocab_for_gpu, with_config, with_n_heads
from jaxgpt.models.gpt2 import GPT2
from tests.support.losses import mean_loss
from tests.support.models import new_model


def make(config):
    return new_model(config, jax.random.key(0))


def padded(config, multiple):
    return dataclasses.replace(config, pad_vocab_to_multiple_of=multiple)


def test_aligned_for_a_gpu_a_model_has_the_same_loss_and_gradient(tiny, batch):
    model, on_gpu = make(tiny), dataclasses.replace(tiny, attention="cudnn")

    def loss(model):
        padded_for_gpu = pad_vocab_for_gpu(with_config(model, on_gpu))
        assert padded_for_gpu.wte.embedding[...].shape == (64, 20)
        return mean_loss(with_config(padded_for_gpu, padded(tiny, 8)), batch)  # computed as a CPU does

    (plain, grads), (wide, wide_grads) = (
        jax.jit(jax.value_and_grad(f))(model) for f in (lambda m: mean_loss(m, batch), loss)
    )
    np.testing.assert_allclose(wide, plain, rtol=1e-6)
    for a, b in zip(jax.tree.leaves(grads), jax.tree.leaves(wide_grads), strict=True):
        np.testing.assert_allclose(b, a, atol=1e-7)
    assert pad_vocab_for_gpu(model) is model  # nothing is gained elsewhere
    assert pad_vocab_for_gpu(with_config(model, padded(on_gpu, 8))).wte.embedding[...].shape == (64, 20)


def test_heads_that_are_there_stay_and_new_ones_begin_as_the_first(tiny):
    """3 layers for 2 tokens: a trunk of 1. What predicts the next token is the same with any number of heads."""
    two = jax.tree.map(lambda leaf: 4 * leaf, make(dataclasses.replace(tiny, predict_tokens=2, untied_head=True)))
    x = np.random.default_rng(0).integers(0, 61, (2, 9))
    of_next, of_all = jax.jit(GPT2.__call__), jax.jit(GPT2.all_heads)
    one, four = with_n_heads(two, 1), with_n_heads(two, 4)
    assert with_n_heads(two, 2) is two
    assert (one.config.n_layer, one.config.predict_tokens) == (2, 1)
    assert (four.config.n_layer, four.config.predict_tokens) == (5, 4)
    for model in (one, four, with_n_heads(one, 2), with_n_heads(four, 3)):
        like = jax.eval_shape(lambda config=model.config: GPT2(config, jax.random.key(0)))
        assert jax.tree.structure(model) == jax.tree.structure(like)
        np.testing.assert_array_equal(of_next(model, x), of_next(two, x))
    logits, there = np.asarray(of_all(four, x)), np.asarray(of_all(two, x))
    np.testing.assert_array_equal(logits[:2], there)
    np.testing.assert_array_equal(logits[2:], [there[0], there[0]])
    for a, b in zip(jax.tree.leaves(with_n_heads(four, 2)), jax.tree.leaves(two), strict=True):
        np.testing.assert_array_equal(a, b)
