"""Many answers at once, against one prompt at a time."""

import jax
import numpy as np
import pytest

from jaxgpt.inference.complete import complete
from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import make_sampling_params
from tests.inference.test_generate import CONFIG, make


@pytest.fixture(scope="module")
def model():
    return make(CONFIG)


def draw_prompts(n):
    rng = np.random.default_rng(0)
    prompts = [rng.integers(CONFIG.vocab_size, size=rng.integers(1, 15)).tolist() for _ in range(n)]
    return [*prompts, prompts[0], [*range(20)]]  # an equal one, and one that is longer than the context


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_each_prompt_is_answered_as_if_it_were_alone(model, temperature):
    """Beyond the context of 16, with a stop token that ends some of them early."""
    prompts, done = draw_prompts(10), []
    texts = generate(model, [prompt[-16:] for prompt in prompts], 24, jax.random.key(5), temperature)
    stop = texts[3][8]
    expected = [text[: text.index(stop)] if stop in text else text for text in texts]
    sampling = make_sampling_params(temperature, stop=stop)
    for batch_size in (3, 12):
        assert complete(model, prompts, 24, batch_size, sampling, 5, done.append) == expected
    assert sum(done) == 2 * len(prompts)
    lengths = [len(answer) for answer in expected]
    assert max(lengths) == 24 and min(lengths) <= 8
