import dataclasses
import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.base import next_token_logits
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.convert import with_config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.models.layers import unstack_layers
from jaxgpt.objectives import next_token
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import train_step
from tests.support.losses import NEXT_TOKEN, mean_loss
from tests.support.models import forward, new_model, new_state


def make(config, seed=0):
    return new_model(config, jax.random.key(seed))


def parameters(model):
    return {jax.tree_util.keystr(path): leaf for path, leaf in jax.tree_util.tree_leaves_with_path(model)}


@pytest.mark.parametrize(
    "shape, count",
    [
        ((12, 12, 768), 124_439_808),
        ((24, 16, 1024), 354_823_168),
        ((36, 20, 1280), 774_030_080),
        ((48, 25, 1600), 1_557_611_200),
    ],
)
def test_parameter_counts_are_those_of_the_released_models(shape, count):
    config = GPT2Config(n_layer=shape[0], n_head=shape[1], n_embd=shape[2])
    model = jax.eval_shape(lambda: GPT2(config, jax.random.key(0)))
    assert sum(leaf.size for leaf in jax.tree.leaves(model)) == count
    assert {leaf.dtype for leaf in jax.tree.leaves(model)} == {jnp.dtype("float32")}


def test_names_are_hugging_faces():
    model = jax.eval_shape(lambda: GPT2(GPT2Config(), jax.random.key(0)))
    blocks = ["ln_1", "attn.c_attn", "attn.c_proj", "ln_2", "mlp.c_fc", "mlp.c_proj"]
    expected = {"wte", "wpe", "ln_f", *(f"h.{name}" for name in blocks)}
    assert {name[1:].rsplit(".", 2)[0] for name in parameters(model)} == expected  # and no head: it is tied


def test_initial_statistics_of_every_tensor():
    config = GPT2Config(vocab_size=5000, block_size=256, n_layer=6, n_head=4, n_embd=128)
    for name, leaf in parameters(make(config)).items():
        values = np.asarray(leaf, np.float64)
        if "bias" in name or "scale" in name:
            assert np.all(values == ("scale" in name)), name
            continue
        std = 0.02 / math.sqrt(2 * 6) if "c_proj" in name else 0.02
        sigma = 1 / math.sqrt(values.size)  # of the mean and, times 1/sqrt(2), of the standard deviation
        assert abs(values.mean()) < 5 * std * sigma, name
        assert abs(values.std() / std - 1) < 5 * sigma / math.sqrt(2), name
        kurtosis = ((values / std) ** 4).mean()
        assert abs(kurtosis - 3) < 5 * math.sqrt(96) * sigma, name  # normal, not uniform or truncated
        if leaf.shape[0] == 6 and ".h." in name:  # each layer has its own draw
            assert not np.array_equal(values[0], values[1])


def test_a_model_is_a_function_of_its_seed(tiny):
    one, same, other = make(tiny, 1), make(tiny, 1), make(tiny, 2)
    assert jax.tree.structure(one) == jax.tree.structure(other)
    assert all(np.array_equal(a, b) for a, b in zip(jax.tree.leaves(one), jax.tree.leaves(same), strict=True))
    assert not np.array_equal(one.wte.embedding[...], other.wte.embedding[...])


def test_the_first_loss_of_gpt2_is_that_of_guessing():
    """Of its width and vocabulary; the depth is in how small the residual projections begin."""
    model = make(GPT2Config(n_layer=2))
    ids = np.random.default_rng(0).integers(0, 50257, (2, 33))
    logits = forward(model, jnp.asarray(ids[:, :-1]))
    assert logits.shape == (2, 32, 50257) and logits.dtype == jnp.float32
    logits = np.asarray(logits, np.float64)
    picked = np.take_along_axis(logits, ids[:, 1:, None], axis=-1)[..., 0]
    loss = (np.log(np.exp(logits).sum(-1)) - picked).mean()
    assert abs(loss / math.log(50257) - 1) < 0.02


def test_the_future_does_not_reach_the_past(tiny, batch):
    model, apply = make(tiny), forward
    x = np.array(batch["tokens"])
    before = np.asarray(apply(model, x))
    for t in range(x.shape[1]):
        changed = x.copy()
        changed[:, t] = (changed[:, t] + 1) % tiny.vocab_size
        after = np.asarray(apply(model, changed))
        assert np.array_equal(before[:, :t], after[:, :t])
        assert not np.array_equal(before[:, t], after[:, t])


def test_rows_of_a_batch_do_not_meet(tiny, batch):
    model = make(tiny)
    whole, alone = forward(model, batch["tokens"]), forward(model, batch["tokens"][1:])
    np.testing.assert_allclose(whole[1:], alone, atol=1e-6)


def test_the_head_is_the_token_embedding(tiny, batch):
    model = make(tiny)
    grads = jax.jit(jax.grad(lambda model: model(batch["tokens"]).sum()))(model)
    unseen = np.setdiff1d(np.arange(tiny.vocab_size), np.asarray(batch["tokens"]))
    assert np.all(np.abs(grads.wte.embedding[...])[unseen].sum(-1) > 0)  # reached through the head alone


@pytest.mark.parametrize("unroll", [2, 3])
def test_unrolling_changes_no_more_than_rounding(tiny, batch, unroll):
    model, unrolled = make(tiny), make(dataclasses.replace(tiny, unroll=unroll))
    np.testing.assert_allclose(forward(model, batch["tokens"]), forward(unrolled, batch["tokens"]), atol=1e-6)


def test_bfloat16_computes_in_bfloat16_and_keeps_float32_parameters(tiny, batch):
    low = make(dataclasses.replace(tiny, dtype="bfloat16"))
    assert {leaf.dtype for leaf in jax.tree.leaves(low)} == {jnp.dtype("float32")}
    exact, rough = forward(make(tiny), batch["tokens"]), forward(low, batch["tokens"])
    assert rough.dtype == jnp.float32
    assert 0 < np.abs(exact - rough).max() < 0.03 * np.abs(exact).max()
    dots = list(matrix_products(jax.make_jaxpr(low.__call__)(batch["tokens"]).jaxpr))
    assert len(dots) == 2 * (4 + 2) + 1  # four kernels and two in attention, for a CPU and for others; the head
    assert {operand.aval.dtype for dot in dots for operand in dot.invars} == {jnp.dtype("bfloat16")}


def matrix_products(jaxpr):
    for equation in jaxpr.eqns:
        if equation.primitive.name == "dot_general":
            yield equation
        for inner in jax.tree.leaves(list(equation.params.values()), is_leaf=lambda p: hasattr(p, "eqns")):
            yield from matrix_products(getattr(inner, "jaxpr", inner)) if hasattr(inner, "eqns") else ()


@pytest.mark.parametrize("remat, unroll", [("dots", 1), ("full", 3)])
def test_computing_again_changes_no_gradient(tiny, batch, remat, unroll):
    gradient = jax.jit(jax.grad(lambda model: mean_loss(model, batch)))
    kept, again = gradient(make(tiny)), gradient(make(dataclasses.replace(tiny, remat=remat, unroll=unroll)))
    for a, b in zip(jax.tree.leaves(again), jax.tree.leaves(kept), strict=True):
        np.testing.assert_allclose(a, b, atol=1e-6)


def test_computing_again_saves_memory():
    def temporary(remat):
        model = make(GPT2Config(vocab_size=61, block_size=256, n_layer=6, n_head=2, n_embd=64, remat=remat))
        x = jax.ShapeDtypeStruct((8, 256), jnp.int32)
        compiled = (
            jax.jit(jax.grad(lambda model, x, y: next_token.loss(model, {"tokens": x, "targets": y})["loss"][0]))
            .lower(model, x, x)
            .compile()
        )
        return compiled.memory_analysis().temp_size_in_bytes

    none, dots, full = (temporary(remat) for remat in ("none", "dots", "full"))
    assert dots < 0.8 * none and full < 0.8 * dots


# ---- Padded vocabulary: rows that no token uses, and that nothing notices


def padded(config, multiple=128):
    return dataclasses.replace(config, pad_vocab_to_multiple_of=multiple)


@pytest.mark.parametrize("multiple, rows", [(1, 61), (61, 61), (128, 128), (7, 63)])
def test_padding_adds_rows_of_zeros_and_changes_no_other_weight(tiny, multiple, rows):
    plain, wide = make(tiny), make(padded(tiny, multiple))
    assert wide.wte.embedding[...].shape == (rows, 20)
    for (name, a), b in zip(parameters(plain).items(), jax.tree.leaves(wide), strict=True):
        assert np.array_equal(a, b[:61] if "wte" in name else b), name
    assert not np.asarray(wide.wte.embedding[61:]).any()


def test_padding_changes_no_loss_and_no_gradient(tiny, batch):
    losses = jax.jit(jax.value_and_grad(lambda model: mean_loss(model, batch)))
    (plain, grads), (wide, wide_grads) = losses(make(tiny)), losses(make(padded(tiny)))
    np.testing.assert_allclose(wide, plain, rtol=1e-6)
    for (name, a), b in zip(parameters(grads).items(), jax.tree.leaves(wide_grads), strict=True):
        np.testing.assert_allclose(b[:61] if "wte" in name else b, a, atol=1e-7, err_msg=name)
    assert not np.asarray(wide_grads.wte.embedding[61:]).any()


def test_padded_ids_have_no_probability(tiny, batch):
    logits = np.asarray(forward(make(padded(tiny)), batch["tokens"]))
    assert logits.shape == (2, 12, 128)
    assert np.isneginf(logits[..., 61:]).all() and np.isfinite(logits[..., :61]).all()
    np.testing.assert_allclose(logits[..., :61], forward(make(tiny), batch["tokens"]), atol=1e-6)


def test_padded_rows_stay_zero_while_training(tiny, batch):
    """Under decay of everything, clipping, and Adam, which would make a full step of any gradient but 0."""
    tx = make_optimizer(OptimizerConfig(weight_decay=0.1, grad_clip=1.0), 1e-2)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx))
    plain, wide = (new_state(jax.random.key(0), config=config, tx=tx) for config in (tiny, padded(tiny)))
    for _ in range(20):
        (plain, a), (wide, b) = step(plain, batch), step(wide, batch)
        np.testing.assert_allclose([b["loss"], b["grad_norm"]], [a["loss"], a["grad_norm"]], rtol=1e-4)
    assert a["loss"] < 2
    assert not np.asarray(wide.model.wte.embedding[61:]).any()


def test_a_context_too_long_is_an_error(tiny):
    with pytest.raises(ValueError, match="17 tokens are more than the model's block_size of 16"):
        make(tiny)(jnp.zeros((1, 17), jnp.int32))


# ---- Decoding

LONG = GPT2Config(vocab_size=61, block_size=300, n_layer=2, n_head=3, n_embd=24)  # of several reads, the last not full


def with_preferences(config):
    """A model whose parameters are large enough that attention has preferences."""
    return jax.tree.map(
        lambda leaf: leaf + 0.2 * jax.random.normal(jax.random.key(leaf.size), leaf.shape), make(config)
    )


@pytest.fixture(scope="module")
def model():
    return with_preferences(LONG)


@jax.jit
def step(model, cache, idx, column):
    """Logits of the token that follows the last of idx, and the cache."""
    x, cache = model.decode(idx, cache, column)
    return next_token_logits(model, x[:, -1]), cache


@pytest.mark.parametrize("pieces", [[300], [1] * 40, [7, 1, 120, 1, 1, 90, 5]], ids=["whole", "one by one", "mixed"])
def test_the_logits_are_those_without_a_cache(model, pieces):
    idx = np.random.default_rng(0).integers(0, 61, (2, 300), dtype=np.int32)
    expected = np.asarray(forward(model, idx))
    model, cache = unstack_layers(model), model.init_cache(2, 300)
    column = 0
    for T in pieces:
        found, cache = step(model, cache, idx[:, column : column + T], np.int32(column))
        column += T
        np.testing.assert_allclose(found, expected[:, column - 1], atol=1e-5)


def test_each_text_may_be_in_a_column_of_its_own(model):
    """Of other lengths, with rubbish in the tokens behind a text and in the cache."""
    rng, lengths = np.random.default_rng(0), np.array([3, 130, 257])
    idx = rng.integers(0, 61, (3, 300), dtype=np.int32)
    cache = model.init_cache(3, 300)
    cache = jax.tree.map(lambda leaf: leaf + 100.0, cache)
    for column in (0, 128, 256):  # all of them together, also what stands behind a text
        _, cache = step(model, cache, idx[:, column : column + 128], np.int32(column))
    last = lengths[:, None] - 2 + np.arange(2)
    found, _ = step(model, cache, np.take_along_axis(idx, last, 1), np.int32(lengths - 2))
    for row, length in enumerate(lengths):
        alone = forward(model, idx[row : row + 1])[0, length - 1]
        np.testing.assert_allclose(found[row], alone, atol=1e-5)


def test_what_was_written_beyond_the_text_is_not_seen(model):
    idx = np.random.default_rng(0).integers(0, 61, (1, 64), dtype=np.int32)
    cache = model.init_cache(1, 300)
    _, cache = step(model, cache, idx, np.int32(0))  # 64 columns, of which the text shall have 10
    found, _ = step(model, cache, idx[:, 9:10], np.int32(9))
    np.testing.assert_allclose(found, forward(model, idx[:, :10])[:, -1], atol=1e-5)


@pytest.mark.parametrize("pieces", [[40], [12, 1, 26, 1]], ids=["whole", "mixed"])
def test_each_further_head_is_that_of_the_model(pieces):
    """At one token of each text, whichever, when it has read all of them."""
    model = with_preferences(dataclasses.replace(LONG, n_layer=4, predict_tokens=3))
    idx = np.random.default_rng(0).integers(0, 61, (2, 40), dtype=np.int32)
    expected = np.asarray(jax.jit(GPT2.all_heads)(model, idx))  # (3, B, T, V)
    model, cache = unstack_layers(model), model.init_draft_cache(2, 300)

    @jax.jit
    def read(model, cache, idx, column, at):
        x, trunk, cache = model.decode_with_trunk(idx, cache, column)
        y, cache = model.draft(trunk, cache, column, at)
        return next_token_logits(model, x), next_token_logits(model, y), cache

    column = 0
    for T in pieces:
        at = np.array([T - 1, T // 2])
        first, others, cache = read(model, cache, idx[:, column : column + T], np.array([column, column]), at)
        np.testing.assert_allclose(first, expected[0, :, column : column + T], atol=1e-5)
        for row in range(2):
            np.testing.assert_allclose(others[:, row], expected[1:, row, column + at[row]], atol=1e-5)
        column += T


def test_bfloat16_is_close_and_caches_in_bfloat16(model):
    low = with_config(model, dataclasses.replace(LONG, dtype="bfloat16"))
    idx = np.random.default_rng(0).integers(0, 61, (1, 40), dtype=np.int32)
    cache = low.init_cache(1, 300)
    found, cache = step(low, cache, idx, np.int32(0))
    assert {leaf.dtype for leaf in jax.tree.leaves(cache)} == {jnp.dtype("bfloat16")}
    exact = forward(low, idx)[0, -1]
    assert found.dtype == jnp.float32
    assert np.abs(found[0] - exact).max() < 0.05 * np.abs(exact).max()
