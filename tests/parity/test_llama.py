"""Llama, Qwen2 and Qwen3 against transformers' own: numbers, training, text, files, adapters; float32."""

import functools
import json
import math

import jax
import numpy as np
import pytest

from jaxgpt.inference.generate import generate
from jaxgpt.models.base import next_token_logits
from jaxgpt.objectives.classification import label_logits
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state_from, train_step
from tests.support import golden
from tests.support.losses import NEXT_TOKEN, mean_loss
from tests.support.parity import require_gradients_of, save_adapter, save_again

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)

SHAPE = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 44, "num_hidden_layers": 2}
SHAPE |= {"num_attention_heads": 4, "num_key_value_heads": 2, "max_position_embeddings": 96, "use_cache": True}
SHAPE |= {"bos_token_id": None, "eos_token_id": None}
LLAMA3 = {"rope_type": "llama3", "factor": 4.0, "low_freq_factor": 1.0, "high_freq_factor": 3.0}
LLAMA3 |= {"original_max_position_embeddings": 48, "rope_theta": 100.0}
CASES = {  # one head of keys and Llama 3's rotation; biases; norms of heads and a head size that is not C / H
    "llama": ("Llama", {"num_key_value_heads": 1, "rope_parameters": LLAMA3, "head_dim": 10, "rms_norm_eps": 1e-5}),
    "qwen2": ("Qwen2", {"tie_word_embeddings": True, "rope_parameters": {"rope_type": "default", "rope_theta": 1e6}}),
    "qwen3": ("Qwen3", {"head_dim": 16}),
}


@pytest.fixture(autouse=True, scope="module")
def one_thread():
    """Matrices as small as these are faster so."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def theirs_of(case, kind="ForCausalLM", **changes):
    """A model of transformers, every parameter moved so that each one's place in the formulas shows."""
    name, settings = CASES[case]
    torch.manual_seed(0)
    config = getattr(transformers, f"{name}Config")(**SHAPE | settings | changes)
    model = getattr(transformers, name + kind)(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def ids(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, SHAPE["vocab_size"], shape, dtype=np.int32)


def logits_of(model, x):
    with torch.no_grad():
        return model(torch.tensor(x).long()).logits.numpy()


logits = jax.jit(lambda model, x: next_token_logits(model, model.hidden(x)))


SLOW = [pytest.param(case, marks=pytest.mark.slow) for case in ("qwen2", "qwen3")]


@pytest.mark.parametrize("case", ["llama", *SLOW])
def test_logits_gradients_and_files(case, tmp_path):
    """At all of 96 positions: a wrong rotation shows little in the first ones."""
    theirs = theirs_of(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, x, y = load_hf(tmp_path / "theirs"), *(ids(2, 96, seed=seed) for seed in (0, 1))

    expected = logits_of(theirs, x)
    assert np.abs(expected).max() > 1
    np.testing.assert_allclose(logits(ours, x), expected, atol=1e-5)

    loss, _ = golden.loss_of(theirs, x, y)
    loss.backward()
    found = jax.jit(jax.grad(mean_loss))(ours, {"tokens": x, "targets": y})
    require_gradients_of(theirs, found, tmp_path / "gradients")

    save_again(ours, tmp_path / "theirs", tmp_path / "ours")
    again = getattr(transformers, f"{CASES[case][0]}ForCausalLM").from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(logits_of(again.eval(), x), expected)


@pytest.mark.slow
def test_ten_steps(tmp_path):
    theirs, batches, flags = theirs_of("qwen3"), ids(2, 2, 97), golden.RECIPES["chapter"]
    theirs.save_pretrained(tmp_path / "theirs")
    ours = load_hf(tmp_path / "theirs")
    losses, _ = golden.train(theirs, flags, [(rows[:, :-1], rows[:, 1:]) for rows in batches[[0, 1] * 5]])
    tx = make_optimizer(OptimizerConfig(**flags), flags["lr"])
    step, state = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx)), init_state_from(ours, tx=tx)
    for rows, wanted in zip(batches[[0, 1] * 5], losses, strict=True):
        state, metrics = step(state, {"tokens": rows[:, :-1], "targets": rows[:, 1:]})
        np.testing.assert_allclose(metrics["loss"], wanted, atol=1e-4)
    assert losses[-2] < losses[0] - 0.1


def greedy(model, prompts, count):
    """`count` tokens of transformers' own greedy texts; a context that is full loses its older half, as ours does."""
    room, context = SHAPE["max_position_embeddings"], torch.tensor(prompts).long()
    texts = context[:, :0]
    while texts.shape[1] < count:
        context = context if context.shape[1] <= room else context[:, -(room // 2) :]
        new = min(room + 1 - context.shape[1], count - texts.shape[1])
        settings = {"attention_mask": torch.ones_like(context), "max_new_tokens": new, "do_sample": False}
        with torch.no_grad():
            context = model.generate(context, pad_token_id=0, **settings)
        texts = torch.cat([texts, context[:, -new:]], dim=1)
    return texts.tolist()


@pytest.mark.slow
def test_two_hundred_tokens_are_transformers(tmp_path):
    """All at once and alone, through a context of 96 that is full several times."""
    theirs = theirs_of("qwen3")
    theirs.save_pretrained(tmp_path / "theirs")
    ours, prompts = load_hf(tmp_path / "theirs"), ids(3, 7).tolist()
    expected = greedy(theirs, prompts, 200)
    assert generate(ours, prompts, 200, temperature=0) == expected
    assert generate(ours, prompts[1:2], 200, temperature=0) == expected[1:2]
    assert max(len(set(text)) for text in expected) > 10


@pytest.mark.slow
def test_a_head_for_labels(tmp_path):
    theirs = theirs_of("qwen3", "ForSequenceClassification", num_labels=3, pad_token_id=0)
    theirs.save_pretrained(tmp_path / "theirs")
    source = resolve_weights(tmp_path / "theirs")
    assert source.labels == ("LABEL_0", "LABEL_1", "LABEL_2")
    x, last = ids(3, 20) % 60 + 1, np.array([19, 4, 11], np.int32)
    x[np.arange(20) > last[:, None]] = 0
    np.testing.assert_allclose(jax.jit(label_logits)(load(source), x, last), logits_of(theirs, x), atol=1e-5)
    save_hf(load(source), tmp_path / "ours", source.labels)
    assert json.loads((tmp_path / "ours" / "config.json").read_text())["architectures"] == [type(theirs).__name__]
    again = type(theirs).from_pretrained(tmp_path / "ours")
    np.testing.assert_array_equal(logits_of(again.eval(), x), logits_of(theirs, x))


def test_adapters_are_pefts(tmp_path):
    """An adapter of peft's on every linear layer, merged when it is read."""
    model = save_adapter(theirs_of("llama"), tmp_path)
    x = ids(2, 96)
    expected = logits_of(model.eval(), x)
    found = logits(load(resolve_weights(tmp_path / "adapter")), x)
    assert math.inf > np.abs(expected - logits_of(theirs_of("llama"), x)).max() > 0.1
    np.testing.assert_allclose(found, expected, atol=2e-5)
