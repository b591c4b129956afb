"""Texts of many clients at once, against each text alone."""

import asyncio

import jax
import numpy as np
import pytest

from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import prompt_keys
from jaxgpt.models.configs import GPT2Config
from jaxgpt.serving.engine import Engine
from jaxgpt.serving.token_stream import GenerationRequest
from tests.support.models import random_model

CONFIG = GPT2Config(vocab_size=61, block_size=200, n_layer=1, n_head=2, n_embd=20)
MODEL = random_model(CONFIG, spread=0.15)


def draw_requests(n):
    """Requests of all kinds of settings, and the text of each alone."""
    rng, requests, expected = np.random.default_rng(0), [], []
    for number in range(n):
        prompt = rng.integers(CONFIG.vocab_size, size=rng.choice([1, 5, 40, 170])).tolist()
        new = int(rng.integers(1, 31))
        choice = {"temperature": float(rng.choice([0, 0.7, 1.5])), "top_k": int(rng.choice([0, 5]))}
        choice |= {"top_p": float(rng.choice([1.0, 0.8])), "stop": int(rng.choice([-1, 3, 7]))}
        key = jax.random.key(number)
        requests.append(GenerationRequest(tuple(prompt), new, **choice, key=prompt_keys(key, [prompt])[0]))
        stop = None if choice["stop"] < 0 else choice["stop"]
        expected += generate(MODEL, [prompt], new, key, **(choice | {"stop": stop}))
    return requests, expected


async def read(engine, request, delay=0.0):
    await asyncio.sleep(delay)
    stream = engine.stream(request)
    ids = [token async for piece in stream for token in piece]
    return ids, stream.finish_reason


@pytest.mark.parametrize("batch_size", [1, 5])
def test_a_text_is_the_same_in_any_company(batch_size):
    requests, expected = draw_requests(32)
    engine = Engine(MODEL, batch_size)

    async def read_all():
        return await asyncio.gather(*(read(engine, request, 0.01 * k) for k, request in enumerate(requests)))

    answers = asyncio.run(read_all())
    engine.close()
    assert [ids for ids, _ in answers] == expected
    assert [reason for _, reason in answers] == [
        "length" if len(ids) == request.max_new_tokens else "stop"
        for ids, request in zip(expected, requests, strict=True)
    ]
    assert len({reason for _, reason in answers}) == 2
