"""A model as clients meet it: its name, its fingerprint, and texts in pieces, against `generate`."""

import asyncio
import dataclasses
import itertools

import jax
import numpy as np
import pytest

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.inference.answer_text import AnswerText
from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.serving.served_model import TextStream, fingerprint_of, load_served
from jaxgpt.serving.token_stream import GenerationRequest, Job, TokenStream
from tests.support.models import random_model, write_gpt2

CONFIG = GPT2Config(block_size=64, n_layer=1, n_head=1, n_embd=8)


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    served = load_served(
        resolve_weights(write_gpt2(tmp_path_factory.mktemp("models") / "mine", CONFIG)), "cpu", batch_size=2
    )
    yield served
    served.engine.close()


async def read(stream):
    return [piece async for piece in stream]


def test_texts_are_those_of_generate(served, tmp_path_factory):
    prompt, n = served.tokenizer.encode("First Citizen:"), 3
    model = load_hf(next(tmp_path_factory.getbasetemp().glob("models*/mine")))
    expected = generate(model, [prompt] * n, 30, jax.random.key(4), 0.9, 50)
    keys = served.keys(4, [prompt] * n)
    requests = [GenerationRequest(tuple(prompt), 30, 0.9, 50, key=key) for key in keys]

    async def run():
        streams = [served.stream_text(request, AnswerText(served.tokenizer)) for request in requests]
        return streams, await asyncio.gather(*map(read, streams))

    streams, pieces = asyncio.run(run())
    for stream, text, ids in zip(streams, map("".join, pieces), expected, strict=True):
        assert (stream.finish_reason, stream.num_new) == ("length", 30)
        assert text == stream.text.content == served.tokenizer.decode_bytes(ids).decode(errors="ignore")
    assert len(set(map("".join, pieces))) == 3 and all(all(each) for each in pieces)


def test_what_is_known_of_a_model(served):
    assert served.name == "mine" and served.context == 64 and "1 layer, width 8, float32" in served.described
    assert served.tokenizer.vocab_size == 50257 and not served.chat_format.is_chat
    assert len(served.fingerprint) == 16 and int(served.fingerprint, 16) > 0


def test_a_fingerprint_is_that_of_the_weights_alone():
    model = random_model(CONFIG)
    other = random_model(dataclasses.replace(CONFIG, dtype="bfloat16"))  # computes in another dtype
    assert fingerprint_of(model) == fingerprint_of(other)
    other.wpe.embedding[...] = np.nextafter(model.wpe.embedding[...], 1)
    assert fingerprint_of(model) != fingerprint_of(other)


def stream_of(text, sizes, end, stops=(), separator=""):
    """What a client reads of a text whose tokens come in pieces of these sizes, and the stream."""
    ids = iter(GPT2_TOKENIZER.encode(text))

    async def run():
        job = Job(None, asyncio.get_running_loop(), 0.0)
        for size in itertools.cycle(sizes):
            if not (piece := list(itertools.islice(ids, size))):
                break
            job.items.put_nowait(piece)
        job.items.put_nowait(end)
        stream = TextStream(TokenStream(None, job), AnswerText(GPT2_TOKENIZER, stops, separator))
        pieces = await read(stream)
        assert await read(stream) == []
        return "".join(pieces), stream, job

    return asyncio.run(run())


@pytest.mark.parametrize("sizes", [(1,), (2, 1), (50,)])
def test_all_pieces_are_the_content(sizes):
    for text, content in ((" Hello, you.", "Hello, you."), ("Hello", "Hello"), ("\n Hello", "\n Hello"), (" ", " ")):
        for separator in ("", " "):
            got, stream, _ = stream_of(text, sizes, "stop", separator=separator)
            assert got == stream.text.content == (content if separator else text)
            assert stream.finish_reason == "stop"
    assert stream_of("", sizes, "length")[0] == ""


def test_a_text_ends_before_a_stop_text_and_frees_its_place():
    got, stream, job = stream_of("one two\nUser: three", (1,), "length", stops=("\nUser:",))
    assert got == "one two" and stream.finish_reason == "stop" and job.is_closed
    got, stream, _ = stream_of("one two\nUs", (1,), "length", stops=("\nUser:",))
    assert got == "one two\nUs" and stream.finish_reason == "length"


def test_half_a_character_is_left_out_where_a_text_is_cut():
    ids = list(GPT2_TOKENIZER.encode("🙂"))
    assert len(ids) > 1

    async def run(end):
        job = Job(None, asyncio.get_running_loop(), 0.0)
        job.items.put_nowait(ids[:-1])
        job.items.put_nowait(end)
        return await read(TextStream(TokenStream(None, job), AnswerText(GPT2_TOKENIZER)))

    assert asyncio.run(run("length")) == [] and asyncio.run(run("stop")) == ["�"]
