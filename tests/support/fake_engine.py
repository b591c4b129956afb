"""A served model that writes what a test says, with the interface of the real one.

`main` serves one that repeats the last message, slowly, and a thousand times if it is "long".
"""

import asyncio

from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.chat_format import ChatFormat
from jaxgpt.serving.engine import EngineStats
from jaxgpt.serving.served_model import ServedModel

KEY = "key-of-the-fake"


class FakeStream:
    """Pieces of token ids; an exception among them is raised, an asyncio.Event or some seconds are waited for."""

    def __init__(self, request, pieces):
        self.request, self.finish_reason, self.is_closed, self._pieces = request, None, False, iter(pieces)
        self.num_new = 0

    def __aiter__(self):
        return self

    async def __anext__(self):
        for piece in self._pieces:
            await asyncio.sleep(0)
            if isinstance(piece, Exception):
                raise piece
            if isinstance(piece, float):
                await asyncio.sleep(piece)
                continue
            if isinstance(piece, asyncio.Event):
                await piece.wait()
                continue
            if isinstance(piece, str):
                self.finish_reason = piece
                break
            self.num_new += len(piece)
            return list(piece)
        raise StopAsyncIteration

    async def aclose(self):
        self.is_closed = True


class FakeEngine:
    """Answers each request with the next of `answers`: pieces, and then "stop" or "length"."""

    def __init__(self):
        self.answers, self.streams = [], []
        self.stats = EngineStats(running=2, cancelled=3)

    def stream(self, request):
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        self.streams.append(FakeStream(request, answer))
        return self.streams[-1]


class EchoEngine:
    """Writes the last message of a conversation again, ten bytes at a time."""

    stats = EngineStats()

    def stream(self, request):
        read = ByteTokenizer().decode(request.prompt)
        text = read.rpartition("User:")[2].removesuffix("\n\nAssistant:")
        text *= 1000 if text.strip() == "long" else 1
        pieces = [text.encode()[i : i + 10] for i in range(0, len(text.encode()), 10)]
        return FakeStream(request, [each for piece in pieces for each in (0.01, piece)] + ["stop"])

    def close(self):
        pass


def fake_model(engine, context=64):
    """A model whose tokens are bytes."""
    tokenizer, facts = ByteTokenizer(), {"name": "tiny", "fingerprint": "0123456789abcdef", "described": "a fake"}
    return ServedModel(**facts, tokenizer=tokenizer, context=context, chat_format=ChatFormat(tokenizer), engine=engine)


def main() -> int:
    from jaxgpt.commands.serve.app import Api
    from jaxgpt.serving.config import ServerConfig
    from jaxgpt.serving.openai_api import Limits
    from jaxgpt.serving.server import bind, run_server
    from jaxgpt.serving.web import make_app

    config = ServerConfig(port=0)
    api = Api(fake_model(EchoEngine(), context=1024), KEY, Limits("tiny", 8, 512), timeout_s=60)
    app = make_app(api.routes(), config.hosts, lambda: None)
    return run_server(app, bind(config), lambda port: print("chat", f"{config.url(port)}/?token={KEY}", flush=True))
