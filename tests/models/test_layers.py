import jax
import jax.numpy as jnp
import numpy as np

from jaxgpt.models.base import build
from jaxgpt.models.layers import Linear, Rngs, dropout, fold, layer_keys, stack, unstack, unstack_layers

# ---- Dropout


def test_dropout_sets_a_share_to_zero_and_keeps_the_mean():
    keys = jax.random.split(jax.random.key(0), 3)
    x = jnp.ones((3 * 40, 200))
    found = np.asarray(dropout(x, keys, 0.2))
    assert set(np.unique(found)) == {0.0, np.float32(1 / 0.8)}
    assert abs((found == 0).mean() - 0.2) < 0.01  # four standard errors of 24,000 draws
    assert abs(found.mean() - 1) < 0.013
    rows = found.reshape(3, -1)
    assert not np.array_equal(rows[0], rows[1])  # each sequence has its own mask
    np.testing.assert_array_equal(dropout(x[40:80], keys[1:2], 0.2), found[40:80])  # alone too
    assert dropout(x, None, 0.2) is x and dropout(x, keys, 0.0) is x


def test_every_layer_and_sublayer_has_masks_of_its_own():
    keys = jax.random.split(jax.random.key(0), 2)
    layers = layer_keys(keys, 3)
    sublayers = [fold(keys, 0), *(fold(layer, n) for layer in layers for n in (0, 1))]
    data = {tuple(np.asarray(jax.random.key_data(key)).ravel().tolist()) for key in sublayers}
    assert len(data) == 7


# ---- Stacks and linear layers


def test_a_stack_has_layers_with_draws_of_their_own():
    stacked = stack(lambda rngs: Linear(4, 6, std=1.0, rngs=rngs), 3, Rngs(0))
    assert stacked.kernel[...].shape == (3, 4, 6) and stacked.bias[...].shape == (3, 6)
    assert not np.array_equal(stacked.kernel[0], stacked.kernel[1])


def test_a_linear_layer_is_a_product_a_bias_and_its_adapter():
    layer, rng = Linear(4, 6, std=1.0, rngs=Rngs(0), rank=2, scale=3.0), np.random.default_rng(0)
    x = rng.normal(size=(5, 4)).astype(np.float32)
    plain = x @ np.asarray(layer.kernel[...])
    np.testing.assert_allclose(layer(x), plain, atol=1e-5)  # at the beginning the adapter adds nothing
    layer = jax.tree.map(lambda leaf: leaf + 0.5, layer)
    kernel, bias, a, b = (np.asarray(p[...]) for p in (layer.kernel, layer.bias, layer.lora_a, layer.lora_b))
    np.testing.assert_allclose(layer(x), x @ kernel + bias + 3.0 * x @ a @ b, atol=1e-4)


def test_an_unstacked_model_has_a_tuple_of_layers_and_the_same_parameters(tiny):
    model = build(tiny, jax.random.key(0))
    unstacked = jax.jit(unstack_layers)(model)
    assert isinstance(unstacked.h, tuple) and len(unstacked.h) == tiny.n_layer and unstacked.config == tiny
    assert not isinstance(model.h, tuple)  # it is another object
    for i, block in enumerate(unstacked.h):
        np.testing.assert_array_equal(block.mlp.c_fc.kernel[...], model.h.mlp.c_fc.kernel[i])
    assert unstack(unstacked.h) is unstacked.h
    assert sum(leaf.size for leaf in jax.tree.leaves(unstacked)) == sum(leaf.size for leaf in jax.tree.leaves(model))
