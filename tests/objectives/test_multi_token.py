"""Several heads, against the plain sum of their cross-entropies and against ordinary models made of them."""

import dataclasses
import functools
import json
import re
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, export, replay, train
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.data.text import Text
from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.convert import with_n_heads
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import choose_objective, multi_token, next_token
from jaxgpt.objectives.base import Objective
from jaxgpt.objectives.multi_token import head_losses, targets_ahead
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime.xla import aot
from jaxgpt.training.config import OptimizerConfig, TrainConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.setup import step_memory
from jaxgpt.training.step import loss_and_grads, train_step
from tests.support.models import forward, new_model, new_state

B, T, V = 3, 12, 61
CONFIG = GPT2Config(vocab_size=V, block_size=16, n_layer=5, n_head=2, n_embd=20)


def make(config, seed=0):
    """Random weights, away from the flat start."""
    return jax.tree.map(lambda leaf: 4 * leaf, new_model(config, jax.random.key(seed)))


def batch_of(n, seed=0, B=B, T=T):
    ids = np.random.default_rng(seed).integers(0, V, (B, T + n), dtype=np.int32)
    return ids[:, :T], np.stack([ids[:, i : i + T] for i in range(1, n + 1)], axis=1)


def batch_with(x, y, **more):
    return {"tokens": x, "targets": y, **more}


all_heads = jax.jit(lambda model, tokens: model.all_heads(tokens))


def plain_sum(model, batch, keys=None):
    """Equation 2 of the paper with all logits at once, by automatic differentiation."""
    y = batch["targets"]
    log_p = jax.nn.log_softmax(all_heads(model, batch["tokens"]))  # (n, B, T, V)
    of_label = jnp.take_along_axis(log_p, jnp.maximum(y, 0).swapaxes(0, 1)[..., None], -1)[..., 0]
    return {"loss": (-jnp.where(y.swapaxes(0, 1) >= 0, of_label, 0).sum(), jnp.float32(y[:, 0].size))}


PLAIN = Objective("plain", "text", plain_sum)


def assert_same_gradients(found, expected, rtol=1e-5):
    for a, b in zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True):
        np.testing.assert_allclose(a, b, atol=rtol * np.abs(b).max())


# ---- The loss and its gradient


@pytest.mark.parametrize(
    "changes",
    [
        {"predict_tokens": 3, "untied_head": True, "pad_vocab_to_multiple_of": 8, "remat": "full"},
        pytest.param({"predict_tokens": 4, "unroll": 5}, marks=pytest.mark.slow),
        pytest.param({"predict_tokens": 3, "remat": "dots"}, marks=pytest.mark.slow),
    ],
    ids=str,
)
def test_the_gradient_made_head_by_head_is_that_of_the_plain_sum(changes):
    model = make(dataclasses.replace(CONFIG, **changes))
    x, y = batch_of(model.config.predict_tokens)
    y[0, :, 3] = y[1, -1] = -1  # what is not counted
    plain, slope = jax.jit(functools.partial(loss_and_grads, objective=PLAIN))(model, batch_with(x, y))
    step = jax.jit(functools.partial(loss_and_grads, objective=multi_token.OBJECTIVE))
    metrics, grads = step(model, batch_with(x, y))
    total, count = metrics.pop("loss_sum")
    np.testing.assert_allclose(total, plain["loss"][0], rtol=1e-6)
    np.testing.assert_allclose(sum(loss for loss, _ in metrics.values()), total, rtol=1e-6)
    assert [n for _, n in metrics.values()] == (y >= 0).sum((0, 2)).tolist() and count == metrics["loss"][1]
    assert_same_gradients(grads, slope)
    assert all(np.abs(leaf).max() > 0 for leaf in jax.tree.leaves(grads))  # every parameter learns


@pytest.mark.slow
def test_with_dropout_a_step_draws_other_masks_for_every_head_and_the_same_again():
    config = dataclasses.replace(CONFIG, n_layer=4, predict_tokens=3, dropout=0.5)
    model, (x, y), keys = make(config), batch_of(3), jax.random.split(jax.random.key(0), B)
    step = jax.jit(functools.partial(loss_and_grads, objective=multi_token.OBJECTIVE, accumulate=3))
    once = jax.jit(functools.partial(loss_and_grads, objective=multi_token.OBJECTIVE))
    metrics, grads = step(model, batch_with(x, y), keys=keys)
    again, _ = step(model, batch_with(x, y), keys=keys)
    whole, expected = once(model, batch_with(x, y), keys=keys)
    assert metrics["loss_sum"][0] == again["loss_sum"][0]
    np.testing.assert_allclose(metrics["loss_sum"], whole["loss_sum"], rtol=1e-6)
    assert_same_gradients(grads, expected)
    triplets, same_token = with_n_heads(with_n_heads(model, 1), 3), np.repeat(y[:, :1], 3, axis=1)

    def losses(keys=None):
        metrics = jax.jit(multi_token.loss)(triplets, batch_with(x, same_token), keys)
        return [float(metrics[name][0]) for name in ("loss", "loss_2", "loss_3")]

    assert len(set(losses(keys))) == 3
    np.testing.assert_allclose(losses(), losses()[0], rtol=1e-6)


@pytest.mark.slow
def test_of_one_token_it_is_the_ordinary_step_to_the_bit():
    """Twenty steps of each: losses, norms, parameters and moments.

    B*T is a power of 2: the ordinary step's count is a constant, and by another one XLA multiplies with its reciprocal.
    """
    config, tx = dataclasses.replace(CONFIG, unroll=5), make_optimizer(OptimizerConfig(grad_clip=1.0), 1e-2)
    objectives = next_token.OBJECTIVE, multi_token.OBJECTIVE
    steps = [jax.jit(functools.partial(train_step, objective=objective, tx=tx)) for objective in objectives]
    ordinary, multi = (new_state(jax.random.key(0), config=config, tx=tx) for _ in steps)
    for seed in range(20):
        x, y = batch_of(1, seed, B=2, T=16)
        ordinary, a = steps[0](ordinary, batch_with(x, y[:, 0]))
        multi, b = steps[1](multi, batch_with(x, y))
        assert a == {name: b[name] for name in a} and b["loss_sum"] == b["loss"]
    first = new_state(jax.random.key(0), config=config, tx=tx)
    for a, b, before in zip(*map(jax.tree.leaves, (ordinary, multi, first)), strict=True):
        assert np.array_equal(a, b) and not np.array_equal(a, before)
    assert choose_objective("text").loss is next_token.loss  # and with --predict-tokens 1 it is that very step


@pytest.mark.slow
def test_a_step_tells_the_loss_of_every_head():
    config = dataclasses.replace(CONFIG, predict_tokens=3)
    tx = make_optimizer(OptimizerConfig(), 1e-2)
    state = new_state(jax.random.key(0), config=config, tx=tx)
    x, y = batch_of(3)
    losses = [jax.jit(next_token.loss)(state.model, batch_with(x, y[:, 0]))["loss"][0] / (B * T)]
    losses += jax.jit(head_losses)(state.model, x, y)[1:].mean((1, 2)).tolist()
    _, metrics = jax.jit(functools.partial(train_step, objective=multi_token.OBJECTIVE, tx=tx))(state, batch_with(x, y))
    assert list(metrics) == ["grad_norm", "loss", "loss_2", "loss_3", "loss_sum"]  # jit sorts them
    np.testing.assert_allclose([metrics[name] for name in ("loss", "loss_2", "loss_3")], losses, rtol=1e-6)
    np.testing.assert_allclose(metrics["loss_sum"], sum(losses), rtol=1e-6)


# ---- The heads


def test_each_head_with_the_trunk_is_an_ordinary_gpt2():
    config = dataclasses.replace(CONFIG, predict_tokens=3)
    model, (x, _) = make(config), batch_of(3)
    logits, plain = all_heads(model, x), dataclasses.replace(config, n_layer=3, predict_tokens=1)
    assert logits.shape == (3, B, T, V)
    np.testing.assert_allclose(forward(model, x), logits[0], atol=1e-5)
    given = dict(jax.tree_util.tree_leaves_with_path(model))
    for i in range(3):

        def leaf(path, like, i=i):  # the trunk's two blocks, then the head's
            if path[0].name != "h" or i == 0:
                return given[path]
            head = given[(type(path[0])("extra_heads"), *path[1:])][i - 1]
            return jnp.concatenate([given[path][:2], head[None]])

        ordinary = jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(lambda: GPT2(plain, jax.random.key(0))))
        np.testing.assert_allclose(forward(ordinary, x), logits[i], atol=1e-5)
        if i == 0:
            assert all(map(np.array_equal, jax.tree.leaves(with_n_heads(model, 1)), jax.tree.leaves(ordinary)))


def test_no_head_sees_a_token_that_it_predicts():
    model, (x, _) = make(dataclasses.replace(CONFIG, predict_tokens=3)), batch_of(3)
    other = x.copy()
    other[:, 7:] = (other[:, 7:] + 1) % V
    a, b = all_heads(model, x), all_heads(model, other)
    assert np.array_equal(a[:, :, :7], b[:, :, :7]) and not np.allclose(a[:, :, 7:], b[:, :, 7:])


def test_as_many_parameters_as_without():
    def count(**changes):
        shapes = jax.eval_shape(lambda: GPT2(GPT2Config(**changes), jax.random.key(0)))
        return sum(leaf.size for leaf in jax.tree.leaves(shapes))

    assert count() == count(predict_tokens=4) == count(predict_tokens=11) == 124_439_808
    assert count(untied_head=True) == count(untied_head=True, predict_tokens=4) == 124_439_808 + 50257 * 768


@pytest.mark.parametrize("n", [1, 2, 4])
def test_a_model_of_one_token_is_drawn_as_before_and_heads_change_no_other_weight(n):
    plain = GPT2(dataclasses.replace(CONFIG, n_layer=3), jax.random.key(5))
    several = GPT2(dataclasses.replace(CONFIG, n_layer=2 + n, predict_tokens=n), jax.random.key(5))
    given = dict(jax.tree_util.tree_leaves_with_path(several))
    for path, leaf in jax.tree_util.tree_leaves_with_path(plain):
        assert np.array_equal(leaf, given[path]), path
    assert len(given) == len(jax.tree.leaves(plain)) * (1 if n == 1 else 2) - (0 if n == 1 else 4)


# ---- Memory


@pytest.mark.slow
def test_four_heads_take_the_memory_of_one(h100):
    """The compiled step at B=8, T=1024, of half of GPT-2 124M's layers.

    Of all of them it is 0.84 times on a CPU, and 0.94 on an H100: docs/multi_token.md.
    """
    mesh = aot.described("h100")[0]
    shape = {"B": 8, "T": 1024, "n_layer": 6}
    one, four = (step_memory(TrainConfig.of(**shape, predict_tokens=n), mesh).temporary for n in (1, 4))
    assert four <= 1.15 * one


# ---- Documents, and what is measured

# Two sequences of 12: documents of 5 and 6 tokens and the room left; one of 12. y is below 0 where it is a prompt's.
X = np.random.default_rng(0).integers(1, V, (2, 12), dtype=np.int32)
POSITIONS = np.array([[0, 1, 2, 3, 4, 0, 1, 2, 3, 4, 5, 0], range(12)], np.int32)
Y = np.roll(X, -1, axis=1)
Y[0, [0, 1, 4, 5, 10, 11]] = Y[1, :7] = Y[1, 11] = -1
DOCUMENTS = [(0, range(5)), (0, range(5, 11)), (1, range(12))]


def targets_by_hand(n):
    found = np.full((2, n, 12), -1)
    for row, places in DOCUMENTS:
        for t in places:
            for i in range(n):
                if t + i in places and Y[row, t + i] >= 0:
                    found[row, i, t] = Y[row, t + i]
    return found


@pytest.mark.parametrize("n", [1, 2, 4, 13])
def test_tokens_ahead_end_with_their_document(n):
    assert targets_ahead(Y, POSITIONS, n).tolist() == targets_by_hand(n).tolist()


def test_completions_are_learned_from_their_own_document_alone():
    """The brute force: each document alone, each head's every token by itself."""
    model = make(dataclasses.replace(CONFIG, predict_tokens=3))
    expected, targets = np.zeros(3), targets_by_hand(3)
    for row, places in DOCUMENTS:
        log_p = jax.nn.log_softmax(all_heads(model, X[None, row, places.start : places.stop]))[:, 0]
        for i in range(3):
            for t in places:
                if targets[row, i, t] >= 0:
                    expected[i] -= log_p[i, t - places.start, targets[row, i, t]]
    batch, names = batch_with(X, Y, positions=POSITIONS), ("loss", "loss_2", "loss_3")
    metrics = jax.jit(multi_token.loss)(model, batch)
    np.testing.assert_allclose([metrics[name][0] for name in names], expected, rtol=1e-5)
    np.testing.assert_allclose(metrics["loss_sum"], (expected.sum(), (Y >= 0).sum()), rtol=1e-5)
    assert [metrics[name][1] for name in names] == (targets >= 0).sum((0, 2)).tolist()
    metrics = jax.jit(multi_token.measure)(model, batch)
    np.testing.assert_allclose([metrics[name][0] for name in names], expected, rtol=1e-5)


def test_what_is_measured_of_the_next_token_is_what_an_ordinary_model_measures():
    model, (x, y) = make(dataclasses.replace(CONFIG, predict_tokens=3)), batch_of(3)
    y[0, 2, 7:] = y[1, :, 11] = -1
    metrics = jax.jit(multi_token.measure)(model, batch_with(x, y))
    plain = jax.jit(next_token.measure)(model, batch_with(x, y[:, 0]))
    np.testing.assert_allclose([metrics[name] for name in plain], list(plain.values()), rtol=1e-6)
    assert [metrics["loss_2"][1], metrics["loss_3"][1]] == [(y[:, 1] >= 0).sum(), (y[:, 2] >= 0).sum()]


# ---- A run, from its flags to what is made of it

FLAGS = ["--n-layer", 4, "--n-head", 2, "--n-embd", 16, "--block-size", 32, "--B", 2, "--T", 16, "--lr", 1e-2]
FLAGS += ["--predict-tokens", 3]
TEXT = " ".join(f"word{n % 7} and {n}" for n in range(24))  # so short that a run comes to its end


def main(*words):
    return console.run(train.main, [str(word) for word in words])


def rows(run):
    found = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in row.items() if name not in ("step_ms", "tokens_per_s")} for row in found]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run of six steps that predicts three tokens, over the end of its text."""
    folder = tmp_path_factory.mktemp("run")
    (folder / "text.txt").write_text(TEXT)
    flags = [*FLAGS, "--data", folder / "text.txt", "--save-every", 3, "--hash-every", 1]
    assert main(*flags, "--steps", 6, "--out", folder / "whole") == 0
    assert main(*flags, "--steps", 3, "--out", folder / "parts") == 0
    assert main(*flags, "--steps", 6, "--out", folder / "parts") == 0
    return folder


def test_a_run_that_was_stopped_goes_on_to_the_bit(run):
    whole, parts = rows(run / "whole"), rows(run / "parts")
    assert whole == parts and len({row["state"] for row in whole}) == 6
    N, positions = len(encoding().encode_ordinary(TEXT)), [row["position"] for row in whole]
    of_epoch = (N - 3) // 32
    assert positions == [k % of_epoch * 32 for k in range(6)] and positions.count(0) > 1
    saved = [(run / name / "checkpoints" / "6" / "progress" / "metadata").read_text() for name in ("whole", "parts")]
    one, other = (json.loads(each)["fingerprint"] for each in saved)
    assert one == other and any("extra_heads" in name for name in one)
    assert whole[-1]["loss_sum"] == pytest.approx(sum(whole[-1][name] for name in ("loss", "loss_2", "loss_3")))
    assert whole[-1]["loss_sum"] < whole[0]["loss_sum"] - 1


def test_other_heads_are_another_run(run, capsys):
    flags = [*FLAGS, "--data", run / "text.txt", "--steps", 9, "--out", run / "whole"]
    assert main(*flags, "--predict-tokens", 2) == 4
    assert "predict_tokens 3 there and 2 here" in capsys.readouterr().err


def test_what_is_exported_is_an_ordinary_gpt2_of_the_next_token(run, tmp_path, capsys):
    assert console.run(export.main, [str(run / "whole"), str(tmp_path / "hf")]) == 0
    assert "GPT-2 has none for the other 2 that the run predicts" in capsys.readouterr().out
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["n_layer"] == 2 and config["tie_word_embeddings"] is True
    model, x = load(resolve_weights(run / "whole")), np.arange(20)[None]
    np.testing.assert_allclose(forward(load_hf(tmp_path / "hf"), x), all_heads(model, x)[0], atol=1e-6)
    with pytest.raises(UsageError, match=r"one head, this model 3; save convert\.with_n_heads"):
        save_hf(model, tmp_path / "other")


def test_an_evaluation_measures_every_head(run, tmp_path):
    words = [run / "whole", "--data", run / "text.txt", "--T", 16, "--json", tmp_path / "found.json"]
    assert console.run(evaluate.main, [str(word) for word in words]) == 0
    found = json.loads((tmp_path / "found.json").read_text())
    model, ids = load(resolve_weights(run / "whole")), encoding().encode_ordinary(TEXT)
    losses = [[], [], []]
    for start in range(0, len(ids) - 1, 16):
        window = ids[start : min(start + 16, len(ids) - 1)]
        log_p = jax.nn.log_softmax(all_heads(model, np.array([window + [0] * (16 - len(window))])))[:, 0]
        for t in range(len(window)):
            for i in range(3):
                if start + t + i + 1 < len(ids):  # nothing is known behind the text
                    losses[i].append(-float(log_p[i, t, ids[start + t + i + 1]]))
    assert [len(each) for each in losses] == [len(ids) - 1, len(ids) - 2, len(ids) - 3]
    names = ("loss", "loss_2", "loss_3")
    np.testing.assert_allclose([found[name] for name in names], [np.mean(each) for each in losses], rtol=1e-5)
    assert found["tokens"] == len(ids) - 1 and found["bytes"] == len(TEXT)


def test_the_batch_of_a_step_can_be_seen_again(run, capsys):
    assert console.run(replay.main, [str(run / "whole"), "--step", "4"]) == 0
    assert re.search(r"step 4: loss [\d.]+, gradient norm [\d.]+, as in the log\n", capsys.readouterr().out)


@pytest.mark.parametrize(
    "n, note, layers",
    [
        (1, "of the weights' 3 heads, the last 2 are left out; see --predict-tokens", 2),
        pytest.param(
            *(5, "the last 2 of 5 heads are new, and begin as copies of the first", 6), marks=pytest.mark.slow
        ),
    ],
)
def test_a_run_may_begin_with_weights_of_more_or_fewer_heads(run, tmp_path, capsys, n, note, layers):
    words = ["--data", run / "text.txt", "--B", 2, "--T", 16, "--steps", 1, "--out", tmp_path / "tuned"]
    assert main(*words, "--init-from", run / "whole", "--predict-tokens", n) == 0
    out = capsys.readouterr().out
    assert f"note      {note}\n" in out
    tokens = np.array(encoding().encode_ordinary(TEXT), np.uint16)
    batch, _ = Text("", tokens, "", B=2, T=16, horizon=n).batch(0)
    model = with_n_heads(load(resolve_weights(run / "whole")), n)
    (row,) = rows(tmp_path / "tuned")
    assert resolve_weights(tmp_path / "tuned").config.n_layer == layers
    if n == 1:
        np.testing.assert_allclose(row["loss"], jax.jit(next_token.loss)(model, batch)["loss"][0] / 32, rtol=1e-6)
        return
    for name, (loss, _) in jax.jit(multi_token.loss)(model, batch).items():
        np.testing.assert_allclose(row[name], loss / 32, rtol=1e-5)


@pytest.fixture(scope="module")
def tuned(run):
    """The flags of a run on examples from those weights, and its folder."""
    pairs = "".join(json.dumps({"prompt": f"word{n}", "completion": f" and {n}, {n + 1}."}) + "\n" for n in range(20))
    (run / "pairs.jsonl").write_text(pairs)
    tuning = ["--init-from", run / "whole", "--data", run / "pairs.jsonl", "--val", 0.2, "--B", 4, "--T", 16]
    tuning += ["--predict-tokens", 3, "--lr", 1e-2, "--steps", 8]
    assert main(*tuning, "--out", run / "tuned") == 0
    return tuning, run / "tuned"


def test_examples_are_learned_by_every_head(tuned):
    first, *_, last = rows(tuned[1])
    assert all(last[name] < first[name] for name in ("loss", "loss_2", "loss_3"))
    assert last["val_loss"] < first["loss"] and last["val_loss_3"] < first["loss_3"]


@pytest.mark.slow
def test_examples_are_learned_by_adapters_of_every_head(run, tuned, tmp_path):
    tuning, folder = tuned
    assert main(*tuning, "--lora", 2, "--lora-on", "attn.c_attn,mlp.c_fc", "--out", tmp_path / "adapters") == 0
    names = ("loss", "loss_2", "loss_3")
    assert [rows(tmp_path / "adapters")[0][name] for name in names] == [rows(folder)[0][name] for name in names]
    models = (load(resolve_weights(run / "whole")), load(resolve_weights(tmp_path / "adapters")))
    pairs = zip(*(jax.tree.leaves(model.extra_heads) for model in models), strict=True)
    assert sum(not np.array_equal(a, b) for a, b in pairs) == 2  # the kernels with adapters, of the other heads too


@pytest.mark.slow
def test_adapters_are_of_as_many_heads_as_the_weights_have_or_fewer(tuned, tmp_path, capsys):
    tuning, _ = tuned
    assert main(*tuning, "--lora", 2, "--predict-tokens", 2, "--steps", 1, "--out", tmp_path / "fewer") == 0
    assert load(resolve_weights(tmp_path / "fewer")).config.predict_tokens == 2  # of the base's three heads
    capsys.readouterr()
    assert main(*tuning, "--lora", 2, "--predict-tokens", 4, "--out", tmp_path / "new") == 2
    assert "--init-from has weights for 3, and adapters need weights that they adapt" in capsys.readouterr().err


def test_labels_are_not_several_tokens(tmp_path, capsys):
    (tmp_path / "labels.csv").write_text("text,label\ngood,1\nbad,0\n")
    assert main(*FLAGS, "--data", tmp_path / "labels.csv", "--out", tmp_path / "out") == 2
    assert "--predict-tokens 3: a label is one; leave --predict-tokens out" in capsys.readouterr().err


def test_a_head_of_its_own_is_saved_and_read_and_the_same_in_transformers(tmp_path):
    model = make(dataclasses.replace(CONFIG, untied_head=True, n_layer=2, pad_vocab_to_multiple_of=8))
    save_hf(model, tmp_path / "hf")
    x = batch_of(1)[0]
    again = load_hf(tmp_path / "hf")
    np.testing.assert_array_equal(forward(again, x), forward(with_n_heads(model, 1), x)[..., :V])
    assert not np.array_equal(again.lm_head.embedding[...], again.wte.embedding[...])
    transformers, torch = pytest.importorskip("transformers"), pytest.importorskip("torch")
    theirs = transformers.GPT2LMHeadModel.from_pretrained(tmp_path / "hf").eval()
    with torch.no_grad():
        np.testing.assert_allclose(theirs(torch.from_numpy(x.astype(np.int64))).logits, forward(again, x), atol=1e-4)
    shutil.rmtree(tmp_path / "hf")
    theirs.save_pretrained(tmp_path / "hf")
    np.testing.assert_array_equal(forward(load_hf(tmp_path / "hf"), x), forward(again, x))
