"""Many answers in a few rows, against all prompts at once in as many."""

import dataclasses

import jax
import numpy as np
import pytest

from jaxgpt.inference.complete import Rows, complete, unstack
from jaxgpt.inference.decoder import PREFILL
from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import make_sampling_params, prompt_keys
from jaxgpt.models.configs import GPT2Config
from tests.support.models import random_model

CONFIG = GPT2Config(vocab_size=61, block_size=16, n_layer=1, n_head=2, n_embd=20)


def draw_prompts(n):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(CONFIG.vocab_size, size=rng.integers(1, 15)).tolist() for _ in range(n)]
    return [*prompts, prompts[0], [*range(20)]]  # an equal one, and one that is longer than the context


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_each_prompt_is_answered_as_if_it_were_alone(temperature):
    """Beyond the context of 16, with a stop token that ends some of them early."""
    model, prompts, done = random_model(CONFIG, spread=0.15), draw_prompts(10), []
    texts = generate(model, [prompt[-16:] for prompt in prompts], 24, jax.random.key(5), temperature)
    stop = next(text[k] for text in texts for k in range(3, 9) if text.index(text[k]) == k)
    expected = [text[: text.index(stop)] if stop in text else text for text in texts]
    for wanted, end in ((expected, stop), (texts, None)):
        sampling = make_sampling_params(temperature, stop=end)
        assert complete(model, prompts, 24, 3, sampling, 5, done.append) == wanted
    assert sum(done) == 2 * len(prompts) and len({tuple(answer) for answer in expected}) > 5
    assert max(map(len, expected)) > 16 and min(map(len, expected)) <= 8


def test_a_text_continues_where_it_is_moved_to():
    """Read in pieces in one row, begun there, continued in another of three, and ended in the first again."""
    config = dataclasses.replace(CONFIG, block_size=120)
    model, prompt = random_model(config, spread=0.15), draw_prompts(1)[-1] * 4
    key = prompt_keys(jax.random.key(1), [prompt])[0]
    expected = generate(model, [prompt], 12, jax.random.key(1), 0.8, 20)[0]
    small, large = (Rows(unstack(model), B, 120) for B in (1, 3))
    large.start(0, [7], key, 30, make_sampling_params(0))
    small.start(0, prompt, key, 12, make_sampling_params(0.8, 20))
    unread = [small.unread(0)]
    while small.unread(0):
        small.read(PREFILL)
        unread.append(small.unread(0))
    text = small.write(3)[0][0]
    small.move(0, large, 2)
    assert small.free.all() and large.free.tolist() == [False, True, False]
    new, steps = large.write(4)
    assert steps == 4 and len(new[0]) == 4 and new[1] == []
    large.move(2, small, 0)
    text += new[2] + small.write()[0][0]
    assert text == expected and unread == [79, 47, 15, 0] and small.free.all() and not small.stopped.any()
    assert new[0] + large.write()[0][0] == generate(model, [[7]], 20, temperature=0)[0]
