"""Answers through an engine, against the model's own."""

import asyncio

import jax
import numpy as np

from jaxgpt.commands.review.config import ReviewConfig
from jaxgpt.commands.review.items import encode_items, load_items
from jaxgpt.commands.review.writing import make_writer
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.chat_format import ChatFormat
from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.serving.engine import Engine
from jaxgpt.serving.served_model import ServedModel
from tests.support.models import random_model

TOKENIZER = ByteTokenizer()
MODEL = random_model(GPT2Config(vocab_size=257, block_size=48, n_layer=1, n_head=2, n_embd=20), spread=0.15)


def test_an_answer_is_what_generate_writes_with_the_prompt_and_the_seed(write, tmp_path):
    items = load_items(write("a.jsonl", [{"prompt": text} for text in ("a", "bcd", "x" * 40)]))
    items += load_items(write("b.jsonl", [{"messages": [{"role": "user", "content": "Hi"}]}]))
    chat = ChatFormat(TOKENIZER)
    ids, engine = encode_items(items, "m", chat, 48), Engine(MODEL, batch_size=1)
    served = ServedModel("m", "0" * 16, "", TOKENIZER, engine.context, chat, engine)
    config = ReviewConfig(("run",), tmp_path, tmp_path / "x.jsonl", max_new_tokens=24, temperature=1.5, top_k=200)
    write_answer = make_writer(served, config, ids)

    async def answer(item, seed):
        pieces = []
        cut = await write_answer(item, seed, pieces.append)
        return "".join(pieces), cut

    async def answer_all():
        return await asyncio.gather(*(answer(item, seed) for item in items for seed in (1, 2)))

    answers = asyncio.run(answer_all())
    engine.close()
    expected = []
    for item in items:
        prompt = list(ids[item.id])
        most = min(24, 48 - len(prompt))
        for seed in (1, 2):
            (new,) = generate(MODEL, [prompt], most, jax.random.key(seed), 1.5, 200, 1.0, TOKENIZER.end)
            bytes_ = TOKENIZER.decode_bytes(new)
            expected.append((bytes_, len(new) == most))
    for (text, cut), (bytes_, is_cut), item in zip(answers, expected, np.repeat(items, 2), strict=True):
        whole = bytes_.decode("utf-8", "replace")
        whole = whole if item.prompt is not None else whole.removeprefix(" ")
        assert cut == is_cut and (text == whole or (cut and whole.startswith(text) and len(whole) - len(text) <= 3))
    assert {cut for _, cut in answers} == {True, False} and answers[0][0] != answers[1][0]
