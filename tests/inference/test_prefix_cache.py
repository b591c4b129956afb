"""Texts that begin alike, one after another in one cache, against each alone in `generate`."""

import itertools

import jax
import numpy as np
import pytest

from jaxgpt.inference.generate import generate
from jaxgpt.inference.prefix_cache import PIECE, PrefixCache
from jaxgpt.inference.sampling import make_sampling_params, prompt_keys
from jaxgpt.models.configs import GatedCNNConfig, GPT2Config
from tests.support.models import random_model

V, T, STOP = 31, 2 * PIECE + 100, 0
SHAPE = {"vocab_size": V, "block_size": T, "n_embd": 8}
CONFIGS = {
    "gpt2": GPT2Config(**SHAPE, n_layer=2, n_head=2),
    "gated_cnn": GatedCNNConfig(**SHAPE, n_layer=2, bottleneck=4, kernel_size=3),
}
KEY = jax.random.key(3)


def continue_text(cache, prompt, max_new_tokens=12, temperature=1.0):
    """The new tokens, and how many of the prompt were read."""
    before, sampling = cache.num_read, make_sampling_params(temperature, stop=STOP)
    pieces = list(cache.stream(prompt, max_new_tokens, sampling, prompt_keys(KEY, [prompt])[0]))
    return [*itertools.chain(*pieces)], cache.num_read - before


@pytest.mark.parametrize("name", ["gpt2", pytest.param("gated_cnn", marks=pytest.mark.slow)])
def test_each_text_is_continued_as_if_it_were_alone(name):
    model = random_model(CONFIGS[name], 0.6)
    cache, keeps_columns = PrefixCache(model), name == "gpt2"
    first = np.random.default_rng(0).integers(1, V, PIECE + 50).tolist()

    def check(prompt, shared, max_new_tokens=12, temperature=1.0):
        new, num_read = continue_text(cache, prompt, max_new_tokens, temperature)
        alone = min(max_new_tokens, T + 1 - len(prompt))  # generate would forget the older half and go on
        assert [new] == generate(model, [prompt], alone, KEY, temperature, stop=STOP)
        assert len(prompt) - num_read == (shared // 32 * 32 if keeps_columns else shared)
        return prompt + new

    text = check(first, 0)
    ended = len(text) < len(first) + 12
    cached = len(text) - (not ended)  # the newest token was not read; the stop token is none of them
    longer = check([*text, *([STOP] if ended else []), 4, 5, 6], cached)
    check(longer[:-20], len(longer) - 21 if keeps_columns else 0)  # back: a recurrent state can't
    check([*longer[:40], 7, *longer[41:]], 40 if keeps_columns else 0, temperature=0.0)
    check([9, *first[1:3]], 0)
    check(first * 2 + first[: T - 2 * len(first)], 0, max_new_tokens=40)  # the context is full after one token
    check(first[:1], 0)


def test_a_caller_may_stop_anywhere_and_goes_on_from_there():
    model, sampling = random_model(CONFIGS["gpt2"], 0.6), make_sampling_params(0)
    cache, prompt = PrefixCache(model), [1, 2, 3] * 180
    key = np.zeros(2, np.uint32)
    assert next(cache.stream(prompt, 5, sampling, key)) == []  # one piece was read
    stream = cache.stream(prompt, 5, sampling, key)
    assert next(stream) == [] and cache.num_read == 2 * len(prompt) - PIECE
    start = [next(stream), next(stream)]
    (alone,) = generate(model, [prompt], 5, temperature=0)
    assert [*itertools.chain(*start)] == alone[:2]
    new, num_read = continue_text(cache, prompt + alone[:2], 3, 0)
    assert new == alone[2:] and num_read == len(prompt) + 2 - (len(prompt) + 1) // 32 * 32
