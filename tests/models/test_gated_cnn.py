"""Gated convolutions: against PyTorch, their window, and on a real text; what all models promise is in test_base."""

import dataclasses
import functools
import gzip
import math
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import jaxgpt.data
from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GatedCNNConfig
from jaxgpt.models.convert import with_config
from jaxgpt.models.layers import unstack_layers
from jaxgpt.objectives.classification import label_logits
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import train_step
from tests.support.losses import NEXT_TOKEN, mean_loss
from tests.support.models import new_model, new_state, spread_model

CONFIG = GatedCNNConfig(vocab_size=61, block_size=16, n_layer=3, n_embd=20, kernel_size=4, bottleneck=12)


@pytest.fixture(scope="module")
def model():
    return spread_model(CONFIG)


hidden = jax.jit(lambda model, tokens, positions=None: model.hidden(tokens, positions))


def tokens_of(shape, seed=0):
    return np.random.default_rng(seed).integers(0, 61, shape, dtype=np.int32)


# ---- The function


@pytest.mark.parametrize("packed", [False, True])
def test_a_token_changes_those_of_its_window_alone(model, packed):
    """To the bit: none before it, none of another document, and none further behind it than L * (k - 1)."""
    config = dataclasses.replace(CONFIG, n_layer=2, kernel_size=3)
    model, reach = spread_model(config), 2 * (3 - 1)
    positions = np.array([[*range(9), *range(7)]] * 2, np.int32) if packed else None
    x = tokens_of((2, 16))
    before = np.asarray(hidden(model, x, positions))
    for t in range(16):
        changed = x.copy()
        changed[:, t] = (changed[:, t] + 1) % 61
        after = np.asarray(hidden(model, changed, positions))
        end = min(t + reach, 8 if packed and t < 9 else 15)
        same = np.array([np.array_equal(before[:, i], after[:, i]) for i in range(16)])
        assert same[:t].all() and same[end + 1 :].all()
        assert not same[t : end + 1].any()


def in_pytorch(parameters, config, x, y):
    """The loss by PyTorch's own embedding, convolution and gate, in float64, and the gradient of each parameter."""
    import torch
    from torch.nn import functional

    w = {name: torch.tensor(np.asarray(leaf, np.float64), requires_grad=True) for name, leaf in parameters.items()}
    x, y = torch.tensor(x).long(), torch.tensor(y).long()

    def conv(x, layer, kernel, bias, k):  # (B, in, T); a kernel is (k * in, 2 * out), its oldest tap first
        kernel = kernel[layer].reshape(k, -1, kernel.shape[-1]).permute(2, 1, 0)  # (2 * out, in, k)
        return functional.glu(functional.conv1d(functional.pad(x, (k - 1, 0)), kernel, bias[layer]), dim=1)

    h = functional.embedding(x, w[".wte.embedding"])
    for layer in range(config.n_layer):
        scale, bias = (w[f".h.ln.{name}"][layer] for name in ("scale", "bias"))
        z = functional.layer_norm(h, h.shape[-1:], scale, bias).transpose(1, 2)
        for name, k in (("narrow", 1), ("conv", config.kernel_size), ("widen", 1)):
            z = conv(z, layer, w[f".h.{name}.kernel"], w[f".h.{name}.bias"], k)
        h = h + z.transpose(1, 2)
    h = functional.layer_norm(h, h.shape[-1:], w[".ln_f.scale"], w[".ln_f.bias"])
    table = w[".lm_head.embedding" if config.untied_head else ".wte.embedding"][: config.vocab_size]
    loss = functional.cross_entropy((h @ table.T).flatten(0, 1), y.flatten())
    loss.backward()
    return loss.item(), {name: leaf.grad.numpy() for name, leaf in w.items()}


@pytest.mark.parametrize(
    "changes",
    [{}, {"untied_head": True, "kernel_size": 1, "unroll": 3}, {"pad_vocab_to_multiple_of": 16, "remat": "dots"}],
    ids=["tied", "untied", "padded"],
)
def test_loss_and_gradients_are_pytorchs(changes):
    pytest.importorskip("torch")
    config = dataclasses.replace(CONFIG, **changes)
    model, x, y = spread_model(config), tokens_of((2, 16)), tokens_of((2, 16), seed=1)
    loss, grads = jax.jit(jax.value_and_grad(mean_loss))(model, {"tokens": x, "targets": y})

    def named(tree):
        leaves = jax.tree_util.tree_leaves_with_path(tree)
        return {jax.tree_util.keystr(path).removesuffix(".value"): leaf for path, leaf in leaves}

    expected_loss, expected = in_pytorch(named(model), config, x, y)
    np.testing.assert_allclose(loss, expected_loss, rtol=1e-6)
    for name, found in named(grads).items():
        np.testing.assert_allclose(found, expected[name], atol=1e-5 * np.abs(expected[name]).max(), err_msg=name)


def test_bfloat16_is_close(model):
    x = tokens_of((2, 16))
    low = with_config(model, dataclasses.replace(CONFIG, dtype="bfloat16"))
    exact, rough = hidden(model, x), hidden(low, x)
    assert rough.dtype == jnp.bfloat16
    assert 0 < np.abs(exact - rough.astype(jnp.float32)).max() < 0.05 * np.abs(exact).max()


def test_dropout_is_a_mask_of_each_sequence():
    model = spread_model(dataclasses.replace(CONFIG, dropout=0.3))
    x, keys = tokens_of((3, 16)), jax.random.split(jax.random.key(0), 3)
    run = jax.jit(lambda model, x, keys: model.hidden(x, keys=keys))
    found = run(model, x, keys)
    assert not np.array_equal(found, hidden(model, x))
    np.testing.assert_allclose(run(model, x[1:2], keys[1:2])[0], found[1], atol=1e-5)  # alone too
    np.testing.assert_array_equal(run(model, x, None), hidden(model, x))


def test_the_first_loss_is_that_of_guessing_at_any_depth():
    for n_layer in (1, 16):
        config = GatedCNNConfig(vocab_size=1000, block_size=32, n_layer=n_layer, n_embd=64, bottleneck=32)
        model = new_model(config, jax.random.key(0))
        x, y = (np.random.default_rng(i).integers(0, 1000, (4, 32), dtype=np.int32) for i in range(2))
        assert abs(jax.jit(mean_loss)(model, {"tokens": x, "targets": y}) / math.log(1000) - 1) < 0.02


def test_a_head_for_labels_reads_the_last_token():
    model, x = spread_model(dataclasses.replace(CONFIG, n_labels=3)), tokens_of((2, 16))
    logits = label_logits(model, x, np.array([4, 15], np.int32))
    expected = np.asarray(model.hidden(x))[[0, 1], [4, 15]] @ np.asarray(model.score.kernel[...])
    np.testing.assert_allclose(logits, expected, atol=1e-5)


# ---- Decoding: a window in place of the whole context


@pytest.mark.parametrize("pieces", [[16], [1] * 16, [7, 1, 3, 5]], ids=["whole", "one by one", "mixed"])
def test_the_window_is_the_last_inputs_and_padding_is_not_in_it(model, pieces):
    """Two texts of which the second is one token behind; what stands in a window before a text begins is not seen."""
    x = tokens_of((2, 16))
    expected = np.asarray(hidden(model, x))
    cache = jax.tree.map(lambda leaf: leaf + 100.0, model.init_cache(2, 16))
    assert {leaf.shape for leaf in jax.tree.leaves(cache)} == {(2, 3, 12)}  # whatever the length
    decode = jax.jit(type(model).decode)
    unstacked, column = unstack_layers(model), np.array([0, 0])
    for T in pieces:
        count = np.array([T, T - 1 if column[1] == 0 else T])
        part = np.stack([x[row, column[row] : column[row] + T] for row in range(2)])
        part[1, count[1] :] = 60  # rubbish behind the text
        found, cache = decode(unstacked, part, cache, column, count)
        for row in range(2):
            wanted = expected[row, column[row] : column[row] + count[row]]
            np.testing.assert_allclose(found[row, : count[row]], wanted, atol=1e-5)
        column = column + count


# ---- Training


def test_it_learns_more_of_a_text_than_how_often_each_letter_comes():
    """Tiny Shakespeare's bytes, the last tenth for validation, against a unigram model with add-one smoothing."""
    content = gzip.decompress((Path(jaxgpt.data.__file__).parent / "tiny_shakespeare.txt.gz").read_bytes())
    text = np.frombuffer(content, np.uint8).astype(np.int32)
    split = len(text) * 9 // 10
    seen, unseen = text[:split], text[split:]
    counts = np.bincount(seen, minlength=256) + 1
    unigram = -np.log(counts / counts.sum())[unseen[1:]].mean()

    config = GatedCNNConfig(vocab_size=256, block_size=64, n_layer=3, n_embd=32, bottleneck=16)
    tx = make_optimizer(OptimizerConfig(), 1e-2)
    state = new_state(jax.random.key(0), config=config, tx=tx)
    step = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx), donate_argnums=0)
    rng = np.random.default_rng(0)
    for _ in range(80):
        starts = rng.integers(0, split - 65, 8)[:, None] + np.arange(64)
        state, _ = step(state, {"tokens": seen[starts], "targets": seen[starts + 1]})
    x, y = (unseen[i : i + 1600 * 64].reshape(-1, 64) for i in (0, 1))
    assert jax.jit(mean_loss)(state.model, {"tokens": x, "targets": y}) < unigram - 0.3


def test_it_has_no_layout_of_hugging_faces(model, tmp_path):
    with pytest.raises(UsageError, match="a gated CNN has no layout of Hugging Face's"):
        save_hf(model, tmp_path / "out")
