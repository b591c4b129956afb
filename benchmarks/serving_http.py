"""Clients of `jaxgpt serve`: one alone, then many at once, over HTTP, with the texts that each gets.

python -m benchmarks.serving_http

The server is a process of its own, with random weights of the tiny GPT-2. Each client asks for one text after another,
half of them as a stream; the settings of sampling differ from text to text, and each has its seed. One client gets all
texts alone first: with many at once they must be the same, and none may fail.
"""

import asyncio
import contextlib
import dataclasses
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import tyro

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.models.base import build
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.configs.gpt2 import SIZES
from jaxgpt.runs.huggingface import save_hf

KEY = "key-of-the-benchmark"


@dataclasses.dataclass
class Flags:
    """Ask a server from one client, and from many."""

    clients: int = 32
    """How many at once, and texts that the server writes at a time."""
    seconds: float = 60.0
    """How long they ask, in all."""
    rounds: int = 4
    """Parts of that time; before each, one client asks alone for a quarter as long."""
    new_tokens: int = 150
    """Of each text."""
    texts: int = 64
    """How many different ones are asked for."""
    gpt2_vocabulary: bool = False
    """GPT-2's 50,257 tokens in place of 257 bytes."""


@dataclasses.dataclass
class Load:
    """What clients got.

    Attributes:
      texts: {number of a request: all texts that it got}.
      tokens: in all; seconds: how long that took.
      times: seconds of each request.
      failures: of requests, in words.
    """

    texts: dict[int, set[str]] = dataclasses.field(default_factory=dict)
    tokens: int = 0
    seconds: float = 0.0
    times: list[float] = dataclasses.field(default_factory=list)
    failures: list[str] = dataclasses.field(default_factory=list)

    @property
    def tokens_per_s(self) -> float:
        return self.tokens / self.seconds


def make_bodies(flags: Flags) -> list[dict]:
    """Requests with all kinds of sampling."""
    draw, bodies = random.Random(0), []
    for number in range(flags.texts):
        sampling = draw.choice([{"temperature": 0}, {"temperature": 0.8, "top_k": 50}, {"top_p": 0.9}, {}])
        prompt = " ".join(draw.choices(["some", "words", "of", "a", "prompt"], k=draw.randrange(4, 18)))
        body = {"model": "tiny", "prompt": prompt, "seed": number, "max_tokens": flags.new_tokens}
        bodies.append(body | sampling)
    return bodies


async def ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, body: dict) -> tuple[str, int]:
    """One request on an open connection; its text and the number of its tokens."""
    content = json.dumps(body).encode()
    head = f"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\nauthorization: Bearer {KEY}\r\n"
    writer.write(f"{head}content-length: {len(content)}\r\n\r\n".encode() + content)
    received = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
    if "transfer-encoding: chunked" in received:
        answer = b""
        while size := int(await reader.readline(), 16):
            answer += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    else:
        answer = await reader.readexactly(int(re.search(r"content-length: (\d+)", received)[1]))
    if not received.startswith("http/1.1 200 "):
        raise ValueError(f"{received.splitlines()[0]}: {answer.decode()}")
    if not body.get("stream"):
        read = json.loads(answer)
        return read["choices"][0]["text"], read["usage"]["completion_tokens"]
    *events, usage, last = (each.removeprefix("data: ") for each in answer.decode().split("\n\n")[:-1])
    if last != "[DONE]":
        raise ValueError(f"a stream ended in {last}")
    text = "".join(json.loads(each)["choices"][0]["text"] for each in events)
    return text, json.loads(usage)["usage"]["completion_tokens"]


async def run_client(port: int, bodies: list[dict], numbers: list[int], load: Load, seconds: float) -> None:
    """Ask for these requests, again and again for so long; for 0 seconds, once."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 22)
    until = time.monotonic() + seconds
    with contextlib.closing(writer):
        while True:
            for number in numbers:
                began = time.monotonic()
                stream = {"stream": True, "stream_options": {"include_usage": True}} if number % 2 else {}
                try:
                    text, tokens = await ask(reader, writer, bodies[number] | stream)
                except (OSError, ValueError, EOFError) as error:
                    load.failures.append(repr(error))
                    return
                load.texts.setdefault(number, set()).add(text)
                load.times.append(time.monotonic() - began)
                load.tokens += tokens
                if seconds and time.monotonic() > until:
                    return
            if not seconds:
                return


async def run_clients(port: int, bodies: list[dict], clients: int, load: Load, seconds: float = 0) -> None:
    """Clients at once, each in an order of its own, which add to `load`."""
    began = time.monotonic()
    orders = [random.Random(client).sample(range(len(bodies)), len(bodies)) for client in range(clients)]
    await asyncio.gather(*(run_client(port, bodies, order, load, seconds) for order in orders))
    load.seconds += time.monotonic() - began


@contextlib.contextmanager
def serve(folder: Path, *words: str) -> Iterator[int]:
    """A server of the model in a folder; its port."""
    command = [sys.executable, "-m", "jaxgpt", "serve", str(folder), "--port", "0", "--api-key", KEY, *words]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            yield next(int(found[1]) for line in process.stdout if (found := re.search(r"^api .*:(\d+)/v1", line)))
        finally:
            process.terminate()


def measure(flags: Flags) -> tuple[Load, Load, Load]:
    """What one client gets of all requests; one client, timed; and many clients, timed."""
    tokenizer = GPT2_TOKENIZER if flags.gpt2_vocabulary else ByteTokenizer()
    config = GPT2Config(vocab_size=tokenizer.vocab_size, block_size=256, **SIZES["tiny"])
    reference, alone, together = Load(), Load(), Load()
    with tempfile.TemporaryDirectory() as name:
        folder, bodies = Path(name) / "tiny", make_bodies(flags)
        model = jax.jit(build, static_argnums=0)(config, jax.random.key(0))
        save_hf(model, folder, others=tokenizer.hugging_face_files(), tokenizer=tokenizer)
        with serve(folder, "--batch-size", str(flags.clients)) as port:
            asyncio.run(run_clients(port, bodies, 1, reference))
            asyncio.run(run_clients(port, bodies[:4], flags.clients, Load()))  # now everything has run once
            for _ in range(flags.rounds):
                asyncio.run(run_clients(port, bodies, 1, alone, flags.seconds / flags.rounds / 4))
                asyncio.run(run_clients(port, bodies, flags.clients, together, flags.seconds / flags.rounds))
    return reference, alone, together


def main(flags: Flags) -> None:
    reference, alone, together = measure(flags)
    differ = [number for number, texts in together.texts.items() if texts != reference.texts[number]]
    failed = f"{len(together.failures)} of {len(together.times):,} requests failed"
    print(f"{flags.clients} clients, {together.seconds:.0f} s: {failed}")
    print(f"{len(differ)} of {len(together.texts)} requests got another text than from one client alone\n")
    print("| clients | tokens/s | ratio | median s a text | 99 % |\n|---|---|---|---|---|")
    for clients, load in ((1, alone), (flags.clients, together)):
        times = sorted(load.times)
        middle, late = times[len(times) // 2], times[int(0.99 * len(times))]
        ratio = load.tokens_per_s / alone.tokens_per_s
        print(f"| {clients} | {load.tokens_per_s:,.0f} | {ratio:.2f} | {middle:.3f} | {late:.3f} |")
    print(*together.failures[:3], sep="\n")


if __name__ == "__main__":
    main(tyro.cli(Flags))
