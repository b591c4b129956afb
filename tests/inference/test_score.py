"""Log likelihoods: against float64, against PyTorch, and in how many programs."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.inference.score import CHUNK, is_cut, score, score_tokens
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.convert import with_config
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import load_hf
from tests.support import golden

CONFIG = GPT2Config(vocab_size=61, block_size=100, n_layer=2, n_head=2, n_embd=20, pad_vocab_to_multiple_of=64)


@pytest.fixture(scope="module")
def model():
    rng = np.random.default_rng(0)
    shapes = jax.eval_shape(lambda: GPT2(CONFIG, jax.random.key(0)))
    return jax.tree.map(lambda leaf: jax.device_put(0.3 * rng.normal(size=leaf.shape).astype(np.float32)), shapes)


def requests(n=30, longest=160):
    """Of lengths in every bucket, and some too long for the model."""
    rng = np.random.default_rng(0)

    def ids(length):
        return rng.integers(0, CONFIG.vocab_size, length).tolist()

    return [(ids(rng.integers(1, longest)), ids(rng.integers(1, 25))) for _ in range(n)]


def brute_force(logits_of, request):
    """The sum of float64 log probabilities, token by token, and whether all are the likeliest."""
    context, continuation = request
    total, greedy = 0.0, True
    tokens = [*context, *continuation]
    tokens = tokens[max(len(tokens) - CONFIG.block_size - 1, 0) :]
    logits = np.asarray(logits_of(tokens[:-1]), np.float64)[:, : CONFIG.vocab_size]
    for row, token in zip(logits[-len(continuation) :], continuation, strict=True):
        total += row[token] - row.max() - np.log(np.exp(row - row.max()).sum())
        greedy &= int(row.argmax()) == token
    return total, greedy


forward = jax.jit(lambda model, idx: model(idx))


def alone(model):
    def logits(tokens):  # in the length of one program: what stands to the right is seen by nobody
        idx = np.zeros((1, CONFIG.block_size), np.int32)
        idx[0, : len(tokens)] = tokens
        return np.asarray(forward(model, idx))[0, : len(tokens)]

    return logits


def test_each_continuation_is_scored_as_if_it_were_alone(model):
    asked = requests()
    assert sum(is_cut(request, CONFIG.block_size) for request in asked) > 3
    found = score(model, asked, batch_size=4)
    for request, (total, greedy) in zip(asked, found, strict=True):
        expected, likeliest = brute_force(alone(model), request)
        assert total == pytest.approx(expected, abs=1e-4)
        assert greedy is likeliest and type(total) is float


def test_greedy_is_when_every_token_is_the_likeliest(model):
    context, logits_of = [1, 2, 3], alone(model)
    tokens = list(context)
    for _ in range(6):
        tokens.append(int(logits_of(tokens)[-1].argmax()))
    continuation = tokens[3:]
    other = [*continuation[:2], (continuation[2] + 1) % 61, *continuation[3:]]
    asked = [(context, continuation), (context, other), (context, continuation[:1])]
    found = score(model, asked, batch_size=4)
    assert [each.is_greedy for each in found] == [True, False, True]


def test_any_requests_need_a_handful_of_programs_and_no_implicit_transfer(model):
    score_tokens.clear_cache()
    counts = []
    with jax.transfer_guard("disallow"):
        score(model, requests(), batch_size=4)
        assert score_tokens._cache_size() <= 3  # 32, 64 and 100 tokens
        score(model, requests(7, 60), batch_size=4, on_progress=counts.append)
        assert score_tokens._cache_size() <= 3
    assert sum(counts) == 7 and max(counts) <= 4
    assert score(model, []) == []


def test_more_tokens_than_a_chunk(model):
    """Continuations that fill the context, so that several chunks of logits are made."""
    rng = np.random.default_rng(1)
    asked = [([5], rng.integers(0, 61, 100).tolist()) for _ in range(8)]
    assert 8 * 100 > 3 * CHUNK
    for request, (total, _) in zip(asked, score(model, asked), strict=True):
        assert total == pytest.approx(brute_force(alone(model), request)[0], rel=1e-5)


def test_in_bfloat16_it_is_near(model):
    asked = requests(8, 20)
    rounded = score(with_config(model, dataclasses.replace(CONFIG, dtype="bfloat16")), asked, batch_size=4)
    for (exact, _), (total, _) in zip(score(model, asked, batch_size=4), rounded, strict=True):
        assert total == pytest.approx(exact, rel=0.05) and total != exact


def test_the_same_as_pytorch(tmp_path):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    theirs = golden.pytorch_model(CONFIG, spread=0.3)
    theirs.save_pretrained(tmp_path / "theirs")
    model = load_hf(tmp_path / "theirs", pad_vocab_to_multiple_of=64)

    def logits(tokens):
        with torch.no_grad():
            return theirs(torch.tensor([tokens])).logits[0].numpy()

    asked = requests(12)
    for request, (total, greedy) in zip(asked, score(model, asked, batch_size=4), strict=True):
        expected, likeliest = brute_force(logits, request)
        assert total == pytest.approx(expected, abs=1e-4) and greedy is likeliest


@pytest.mark.parametrize(
    "request_, message",
    [
        (([], [1]), "an empty context or continuation"),
        (([1], []), "an empty context or continuation"),
        (([1], [2] * 101), "a continuation of 101 tokens: the model takes up to 100"),
        (([61], [2]), "beyond the model's vocabulary, ids 0 to 60"),
        (([1], [-1]), "beyond the model's vocabulary"),
    ],
)
def test_what_cant_be_scored_is_refused(model, request_, message):
    with pytest.raises(UsageError, match=message):
        score(model, [([1], [2]), request_])
    with pytest.raises(UsageError, match="batch_size 0 is out of range"):
        score(model, [], batch_size=0)
