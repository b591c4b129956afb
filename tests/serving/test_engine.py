"""Texts of many clients at once, against each text alone."""

import asyncio
import time

import jax
import numpy as np
import pytest

from jaxgpt.inference import complete
from jaxgpt.inference.complete import Rows
from jaxgpt.inference.generate import generate
from jaxgpt.inference.sampling import prompt_keys
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load_hf, save_hf
from jaxgpt.serving.engine import Engine
from jaxgpt.serving.token_stream import DeadlineError, EngineError, GenerationRequest, QueueFullError
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
        choice |= {"top_p": float(rng.choice([1.0, 0.8])), "stop": [None, 3, 7][rng.integers(3)]}
        key = jax.random.key(number)
        requests.append(GenerationRequest(tuple(prompt), new, **choice, key=prompt_keys(key, [prompt])[0]))
        expected += generate(MODEL, [prompt], new, key, **choice)
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


def make_request(n=2, new=20, **settings):
    return GenerationRequest(tuple(k % 61 for k in range(1, n + 1)), new, temperature=0, **settings)


def alone(request):
    return generate(MODEL, [list(request.prompt)], request.max_new_tokens, temperature=0)[0]


async def until(holds, seconds=20):
    for _ in range(1000):
        if holds():
            return
        await asyncio.sleep(seconds / 1000)
    raise AssertionError("it did not happen in time")


@pytest.fixture(scope="module")
def kept_engine():
    engine = Engine(MODEL, 2, 1)
    yield engine
    engine.close()


@pytest.fixture
def engine(kept_engine):
    """Two texts at a time, and one that waits; idle before each test."""
    yield kept_engine
    asyncio.run(until(lambda: not (kept_engine.stats.running or kept_engine.stats.waiting)))


@pytest.fixture
def slow(engine, monkeypatch):
    """As if the model were large: a token takes 5 ms."""
    write = engine._write

    def write_slowly(group, num_tokens):
        time.sleep(0.005)
        write(group, 1)

    monkeypatch.setattr(engine, "_write", write_slowly)
    return engine


def test_a_client_that_leaves_frees_its_place(slow):
    before = slow.stats

    async def run():
        streams = [slow.stream(make_request(n, 190)) for n in (1, 2)]
        for stream in streams:
            await anext(stream)
        waiting = slow.stream(make_request(3, 4))
        assert (slow.stats.running, slow.stats.waiting) == (2, 1)
        with pytest.raises(QueueFullError, match="2 requests are being answered and 1 are waiting"):
            slow.stream(make_request())
        await streams[0].aclose()
        assert [token async for piece in waiting for token in piece] == alone(waiting.request)
        assert [piece async for piece in streams[0]] == [] and streams[0].finish_reason is None
        del streams, stream  # as a task that is cancelled drops its stream
        await until(lambda: slow.stats.running == 0)

    asyncio.run(run())
    counted = {name: getattr(slow.stats, name) - getattr(before, name) for name in ("cancelled", "finished", "refused")}
    assert counted == {"cancelled": 2, "finished": 1, "refused": 1}
    assert slow.stats.new_tokens - before.new_tokens < 2 * 190


def test_one_that_waits_and_leaves_is_never_read(slow):
    async def run():
        streams = [slow.stream(make_request(n, 60)) for n in (1, 2)]
        for stream in streams:
            await anext(stream)
        before = slow.stats.prompt_tokens
        await slow.stream(make_request(50)).aclose()
        await until(lambda: slow.stats.waiting == 0)
        assert slow.stats.running == 2 and slow.stats.prompt_tokens == before

    asyncio.run(run())


def test_a_deadline_cuts_a_text_or_ends_the_wait(slow):
    async def run():
        cut = slow.stream(make_request(2, 190, deadline_s=0.3))
        other = slow.stream(make_request(3, 190))
        await anext(other)
        late = slow.stream(make_request(4, 5, deadline_s=0.05))
        ids = [token async for piece in cut for token in piece]
        assert cut.finish_reason == "length" and 0 < len(ids) == cut.num_new < 190
        assert ids == alone(cut.request)[: len(ids)]
        with pytest.raises(DeadlineError, match="had not begun"):
            await anext(late)
        assert [piece async for piece in late] == []

    before = slow.stats.timed_out
    asyncio.run(run())
    assert slow.stats.timed_out - before == 2


def test_what_fails_fails_alone(engine, monkeypatch):
    """As with too little memory: the texts of that moment are lost, and the next are right."""
    write, calls = Rows.write, []

    def fail_third(self, *arguments):
        calls.append(self)
        if len(calls) == 3:
            self._cache = None  # the failed program has taken it
            raise MemoryError("no room for 12 bytes\nand a lot more")
        return write(self, *arguments)

    monkeypatch.setattr(Rows, "write", fail_third)

    async def run():
        with pytest.raises(EngineError, match=r"could not continue the text: no room for 12 bytes$"):
            await read(engine, make_request(2, 190))
        assert (await read(engine, make_request()))[0] == alone(make_request())

    before = engine.stats
    asyncio.run(run())
    after = engine.stats
    assert (after.failed - before.failed, after.finished - before.finished, after.running) == (1, 1, 0)


def test_a_closed_engine_fails_what_it_has_and_takes_no_more():
    engine = Engine(MODEL, 1)

    async def run():
        streams = [engine.stream(make_request(2, 190)) for _ in range(3)]
        engine.close()
        for stream in streams:
            with pytest.raises(EngineError, match="stopping"):
                async for _ in stream:
                    pass
        with pytest.raises(EngineError, match="stopping"):
            engine.stream(make_request())

    asyncio.run(run())
    assert engine.stats.failed + engine.stats.finished == 3 and engine.stats.running == engine.stats.waiting == 0


def test_requests_compile_nothing(tmp_path):
    """Of weights as they are loaded, on a mesh; prompts of any length, one text and several."""
    save_hf(MODEL, tmp_path)
    engine = Engine(load_hf(tmp_path), 3)
    programs = complete._decode_until._cache_size(), complete._move._cache_size()

    async def run():
        await read(engine, make_request(150, 30))
        await asyncio.gather(*(read(engine, make_request(n, n)) for n in (1, 5, 40, 100, 2)))

    asyncio.run(run())
    engine.close()
    assert (complete._decode_until._cache_size(), complete._move._cache_size()) == programs
    assert engine.stats.finished == 6 and engine.stats.new_tokens == 30 + 148 and engine.stats.busy_seconds > 0
    assert engine.stats.prompt_tokens == 150 + 148
