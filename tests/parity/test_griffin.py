"""Griffin and Hawk against transformers' RecurrentGemma: numbers, training, text, files; float32."""

import functools

import jax
import numpy as np
import pytest

from jaxgpt.inference.generate import generate
from jaxgpt.models.base import next_token_logits
from jaxgpt.runs.huggingface import load_hf
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.optimizer import make_optimizer
from jaxgpt.training.step import init_state_from, train_step
from tests.support import golden
from tests.support.losses import NEXT_TOKEN, mean_loss
from tests.support.parity import require_gradients_of, save_again

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)

SHAPE = {"vocab_size": 61, "hidden_size": 24, "intermediate_size": 88, "num_hidden_layers": 4}
SHAPE |= {"num_attention_heads": 2, "attention_window_size": 20, "logits_soft_cap": 5.0, "use_cache": False}
SHAPE |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
CASES = {  # one head of keys, a width of the recurrence of its own; only recurrences, and an output matrix of its own
    "short": {"num_key_value_heads": 1, "block_types": ["recurrent", "attention"], "num_hidden_layers": 2},
    "griffin": {"num_key_value_heads": 1, "lru_width": 32},
    "hawk": {"block_types": ["recurrent"], "num_hidden_layers": 2, "tie_word_embeddings": False, "conv1d_width": 3},
}


def theirs_of(case, **changes):
    """A model of transformers, every parameter moved so that each one's place in the formulas shows."""
    torch.manual_seed(0)
    config = transformers.RecurrentGemmaConfig(**SHAPE | CASES[case] | changes)
    model = transformers.RecurrentGemmaForCausalLM(config).eval()
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


@pytest.mark.parametrize(
    "case", ["short", *(pytest.param(case, marks=pytest.mark.slow) for case in ("griffin", "hawk"))]
)
def test_logits_gradients_and_files(case, tmp_path):
    """At 80 positions, four windows long."""
    theirs = theirs_of(case)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, batches = load_hf(tmp_path / "theirs"), ids(2, 2, 81)
    assert ours.config.block_size == 8192

    expected = logits_of(theirs, batches[0, :, :-1])
    assert np.abs(expected).max() > 2
    np.testing.assert_allclose(logits(ours, batches[0, :, :-1]), expected, atol=1e-5)

    loss, _ = golden.loss_of(theirs, batches[0, :, :-1], batches[0, :, 1:])
    loss.backward()
    found = jax.jit(jax.grad(mean_loss))(ours, {"tokens": batches[0, :, :-1], "targets": batches[0, :, 1:]})
    require_gradients_of(theirs, found, tmp_path / "gradients")

    save_again(ours, tmp_path / "theirs", tmp_path / "ours")
    again = transformers.RecurrentGemmaForCausalLM.from_pretrained(tmp_path / "ours", use_cache=False)
    np.testing.assert_array_equal(logits_of(again.eval(), batches[0, :, :-1]), expected)


@pytest.mark.slow
def test_ten_steps(tmp_path):
    theirs, batches = theirs_of("short"), ids(2, 2, 33)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, flags = load_hf(tmp_path / "theirs"), golden.RECIPES["chapter"]
    losses, _ = golden.train(theirs, flags, [(rows[:, :-1], rows[:, 1:]) for rows in batches[[0, 1] * 5]])
    tx = make_optimizer(OptimizerConfig(**flags), flags["lr"])
    step, state = jax.jit(functools.partial(train_step, objective=NEXT_TOKEN, tx=tx)), init_state_from(ours, tx=tx)
    for rows, wanted in zip(batches[[0, 1] * 5], losses, strict=True):
        state, metrics = step(state, {"tokens": rows[:, :-1], "targets": rows[:, 1:]})
        np.testing.assert_allclose(metrics["loss"], wanted, atol=1e-4)
    assert losses[-2] < losses[0] - 0.05


@pytest.mark.slow
def test_two_hundred_tokens_are_transformers(tmp_path):
    """All at once and alone, through ten windows, with their cache."""
    theirs = theirs_of("griffin", tie_word_embeddings=False)
    theirs.save_pretrained(tmp_path / "theirs")
    ours, prompts = load_hf(tmp_path / "theirs"), ids(3, 7)
    context = torch.tensor(prompts).long()
    settings = {"attention_mask": torch.ones_like(context), "max_new_tokens": 200, "do_sample": False}
    with torch.no_grad():
        expected = theirs.generate(context, pad_token_id=0, use_cache=True, **settings)[:, 7:].tolist()
    assert generate(ours, prompts.tolist(), 200, temperature=0) == expected
    assert generate(ours, prompts[1:2].tolist(), 200, temperature=0) == expected[1:2]
    assert max(len(set(text)) for text in expected) > 10
