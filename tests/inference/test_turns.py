"""Texts in turns against the model's own forward pass over the whole texts, which has no cache."""

import functools

import jax
import numpy as np
import pytest

from jaxgpt.inference.generate import generate
from jaxgpt.inference.turns import SHORT_PREFILL, Turns
from jaxgpt.models.base import next_token_logits
from jaxgpt.models.configs import GatedCNNConfig, GPT2Config, GriffinConfig, LlamaConfig
from jaxgpt.runtime.mesh import make_mesh
from tests.support.models import random_model

V, T, END, ANSWER = 8, 16, 0, 3
SHAPE = {"vocab_size": V, "block_size": T, "n_embd": 8}
CONFIGS = {
    "gpt2": GPT2Config(**SHAPE, n_layer=2, n_head=2),
    "llama": LlamaConfig(**SHAPE, n_layer=2, n_head=2, n_kv_head=1),
    "griffin": GriffinConfig(**SHAPE, n_layer=3, n_head=2, lru_width=8, window=6),
    "gated_cnn": GatedCNNConfig(**SHAPE, n_layer=2, bottleneck=4, kernel_size=3),
}
PROMPTS = [[1], [2, 3, 4], [5, 6, 7, 1, 2, 3, 4, 5, 6, 7, 1], [7] * (T - 1)]  # the last has room for one token
KEYS = np.random.default_rng(0).integers(0, 2**32, (4, 2), dtype=np.uint32)
SAID = [[3, 1, 4, 1, 5, 2, 6, 5, 3, 5], [2], [], []]  # after the first answer: one is longer than what is read at once
assert len(SAID[0]) > SHORT_PREFILL


def converse(model, temperature, mesh=None):
    """The turns after four answers, of which the second text misses the second; the bounds of the answers of each."""
    turns, bounds = Turns(model, PROMPTS, T, END, KEYS, temperature, mesh), [[] for _ in PROMPTS]
    for turn in range(4):
        active = np.array([turns.room(row) > 0 and (row, turn) != (1, 1) for row in range(4)])
        before = turns.length.copy()
        answers = turns.answer(active, ANSWER)
        for row, answer in enumerate(answers):
            assert (len(answer) > 0) == active[row] and turns.length[row] == before[row] + len(answer)
            bounds[row] += [(before[row], turns.length[row])] if active[row] else []
            if active[row]:
                turns.read(row, (SAID[row] if turn == 0 else [turn])[: turns.room(row)])
    return turns, bounds


@pytest.fixture(scope="module", params=["gpt2", pytest.param("llama", marks=pytest.mark.slow), "griffin", "gated_cnn"])
def model(request):
    return random_model(CONFIGS[request.param], 0.6)


forward = jax.jit(lambda model, tokens: next_token_logits(model, model.hidden(tokens)))
draw = jax.jit(lambda key, i, logits: jax.random.categorical(jax.random.fold_in(key, i), logits))


@pytest.mark.parametrize("temperature", [0.0, 1.0, 1.7])
def test_each_token_is_the_one_that_the_whole_text_before_it_gives(model, temperature):
    turns, bounds = converse(model, temperature)
    every = np.asarray(jax.nn.log_softmax(forward(model, turns.tokens[:, :T])))
    assert (turns.length == T).sum() > 1  # texts that are full
    wrote = np.zeros(turns.tokens.shape, bool)
    for row, answers in enumerate(bounds):
        assert turns.tokens[row, : len(PROMPTS[row])].tolist() == PROMPTS[row]
        places = [column for start, end in answers for column in range(start, end)]
        for i, column in enumerate(places):
            wrote[row, column], before = True, every[row, column - 1]
            key = jax.random.wrap_key_data(KEYS[row])
            new = draw(key, i, before / temperature) if temperature else before.argmax()
            assert turns.tokens[row, column] == new
            np.testing.assert_allclose(turns.log_probs[row, column], before[new], atol=1e-5)
        for start, end in answers:
            answer = turns.tokens[row, start:end].tolist()
            assert END not in answer[:-1] and (answer[-1] == END or len(answer) == ANSWER or end == T)
    assert not turns.log_probs[~wrote].any()
    endings = [turns.tokens[row, end - 1] == END for row, answers in enumerate(bounds) for _, end in answers]
    assert 0 < sum(endings) < len(endings) or not temperature


def test_an_answer_is_what_generate_continues_the_text_with():
    model = random_model(CONFIGS["gpt2"], 0.6)
    turns, bounds = converse(model, 0.0)
    for turn in range(3):
        rows = [row for row in range(4) if len(bounds[row]) > turn]
        texts = [turns.tokens[row, : bounds[row][turn][0]].tolist() for row in rows]
        texts += [[1]] * (4 - len(texts))  # which share a program
        for row, new in zip(rows, generate(model, texts, ANSWER, temperature=0, stop=END), strict=False):
            start, end = bounds[row][turn]
            answer = turns.tokens[row, start:end].tolist()
            assert new[: len(answer)] == answer[: answer.index(END) if END in answer else None]


def test_devices_that_share_the_texts_write_the_same(eight_devices):
    model = random_model(CONFIGS["gpt2"], 0.6)
    mesh = make_mesh({"data": 4}, eight_devices)
    (one, _), (four, _) = converse(model, 1.0), converse(jax.device_put(model), 1.0, mesh)
    assert np.array_equal(one.tokens[:, :T], four.tokens[:, :T])
    np.testing.assert_allclose(one.log_probs, four.log_probs, atol=1e-5)


def test_a_text_is_the_same_alone(model):
    together, _ = converse(model, 1.0)
    alone = functools.partial(Turns, model, T=T, end=END, temperature=1.0)
    turns = alone([PROMPTS[1]] * 4, keys=KEYS[[1]].repeat(4, 0))
    (first, *others) = turns.answer(np.ones(4, bool), ANSWER)
    n = len(PROMPTS[1])
    assert first == together.tokens[1, n : n + len(first)].tolist() and all(each == first for each in others)
