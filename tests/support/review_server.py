"""The server of `review` with models that need no JAX, so that a process of it starts in a second.

An answer is its prompt and its model's number, letter by letter.
"""

import asyncio
from pathlib import Path

from jaxgpt.commands.review.answers import Answers
from jaxgpt.commands.review.items import load_items
from jaxgpt.commands.review.judgments import Judgments
from jaxgpt.commands.review.server import Review
from jaxgpt.commands.review.tokens import load_tokens
from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.server import bind, run_server
from jaxgpt.serving.web import make_app, read_page

MODELS = [{"name": "brass", "fingerprint": "1" * 16}, {"name": "copper", "fingerprint": "2" * 16}]


def make_writer(number):
    async def write(item, seed, add):
        for letter in f" {item.prompt}, {('one', 'two')[number]}":
            add(letter)
            await asyncio.sleep(0)
        return False

    return write


def serve(prompts: Path, out: Path, annotators, port=0, per_item=1):
    """Serve until a signal comes, and print the address of each annotator."""
    config, items = ServerConfig(port=port), load_items(prompts)
    with bind(config) as listening, Judgments(out) as judgments:
        tokens = load_tokens(out, annotators)
        answers = Answers([make_writer(0), make_writer(1)], MODELS, {}, 0, judgments.records)
        review = Review(items, judgments, answers, tokens, per_item, 0, read_page("review.html"))

        def announce(port):
            print(*(f"{config.url(port)}/?token={token}" for token in tokens), flush=True)

        run_server(make_app(review.routes(), config.hosts), listening, announce)
