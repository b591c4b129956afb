"""The forward pass that returns what happens inside, against the model's own, and against numpy."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.inference.trace import Patch, apply_lens, logits_of, trace
from jaxgpt.models.configs import GPT2Config
from tests.support.head_scores import make_model
from tests.support.models import forward, new_model

T = 20
run, logits = jax.jit(trace), jax.jit(logits_of)


@pytest.fixture(scope="module")
def model():
    return make_model()


@pytest.fixture(scope="module")
def texts(model):
    return jax.random.randint(jax.random.key(2), (2, T), 0, model.config.vocab_size)


def test_the_last_layer_has_the_models_logits_to_the_bit(model, texts):
    final, _ = run(model, texts[0])
    assert (logits(model, final) == forward(model, texts[:1])[0]).all()


@pytest.mark.slow
def test_a_gpt2_with_further_heads_an_output_matrix_and_padding_has_its_logits_too(texts):
    config = GPT2Config(vocab_size=97, block_size=32, n_layer=3, n_head=2, n_embd=16, predict_tokens=2)
    config = dataclasses.replace(config, untied_head=True, pad_vocab_to_multiple_of=64)
    model = new_model(config, jax.random.key(0))
    model = jax.tree.map(lambda leaf: leaf + 0.2 * jax.random.normal(jax.random.key(1), leaf.shape), model)
    ours, theirs = logits(model, run(model, texts[0])[0]), forward(model, texts[:1])[0, :, :97]
    assert ours.shape == (T, 97) and jnp.abs(ours - theirs).max() < 1e-5


def test_the_lens_at_a_layer_has_the_logits_of_the_model_without_the_layers_above(model, texts):
    final, layers = run(model, texts[0])
    streams = jnp.concatenate([layers.residual, final[None]])
    ids, probabilities = apply_lens(model, streams, k=3)
    assert ids.shape == probabilities.shape == (3, T, 3)
    shallow = jax.tree.map(lambda leaf: leaf, model)  # a module of its own, whose attributes may be set
    shallow.h = jax.tree.map(lambda leaf: leaf[:1], model.h)
    for each, depth in ((shallow, 1), (model, 2)):
        expected = jax.nn.softmax(forward(each, texts[:1])[0])
        assert (jnp.argsort(-expected)[:, :3] == ids[depth]).all()
        assert np.allclose(jnp.take_along_axis(expected, ids[depth], 1), probabilities[depth], atol=1e-6)


def test_the_parts_of_a_layer_are_those_of_the_formulas(model, texts):
    """The first block, in numpy and float64."""
    _, layers = jax.device_get(run(model, texts[0]))
    block = jax.tree.map(lambda leaf: np.asarray(leaf[0], np.float64), model.h)

    def norm(x, layer):
        normal = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5)
        return normal * layer.scale[...] + layer.bias[...]

    x = np.asarray(model.wte.embedding[...], np.float64)[texts[0]] + np.asarray(model.wpe.embedding[...])[:T]
    mixed = norm(x, block.ln_1) @ block.attn.c_attn.kernel[...] + block.attn.c_attn.bias[...]
    q, k, v = (part.reshape(T, 4, 8).swapaxes(0, 1) for part in np.split(mixed, 3, axis=-1))
    scores = np.where(np.tri(T, dtype=bool), q @ k.swapaxes(1, 2) / np.sqrt(8), -np.inf)
    attention = np.exp(scores - scores.max(-1, keepdims=True))
    attention /= attention.sum(-1, keepdims=True)
    heads = (attention @ v).swapaxes(0, 1)
    middle = x + heads.reshape(T, 32) @ block.attn.c_proj.kernel[...] + block.attn.c_proj.bias[...]
    for ours, theirs in ((layers.residual[0], x), (layers.attention[0], attention), (layers.heads[0], heads)):
        assert np.abs(ours - theirs).max() < 1e-5
    assert np.abs(layers.residual[1] - layers.mlps[0] - middle).max() < 1e-4


def test_to_replace_nothing_changes_no_bit_and_to_replace_all_gives_the_other_run(model, texts):
    (final, layers), (other_final, other) = run(model, texts[0]), run(model, texts[1])
    for value, expected in ((False, (final, layers)), (True, (other_final, other))):
        patch = Patch(jnp.full((2, 4), value), jnp.full((2, T), value), other.heads, other.residual)
        got = run(model, texts[0], patch)
        assert all(map(jnp.array_equal, jax.tree.leaves(got), jax.tree.leaves(expected)))
    assert not jnp.array_equal(final, other_final)


def test_a_text_that_is_too_long_is_refused(model):
    with pytest.raises(ValueError, match="33 tokens are more than the model's block_size of 32"):
        trace(model, jnp.zeros(33, "int32"))
