"""Many clients at once against one alone: tokens per second of the engine, and of `jaxgpt serve` over HTTP.

python -m benchmarks.serving

The model has the shape of `--size tiny` with GPT-2's vocabulary, and random weights; no text ends early. A client asks
for one answer after another, each to a prompt of its own. Over HTTP a client streams /v1/completions, on a connection
for each request; the clients are one process beside the server. Each answer of the many is compared with the same
request alone afterwards, some of them; the last column is how many were compared, and all must be equal.
"""

import argparse
import asyncio
import json
import os
import random
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import numpy as np

from jaxgpt.inference.sampling import prompt_keys
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.serving.engine import Engine
from jaxgpt.serving.token_stream import GenerationRequest
from tests.support.models import random_model
from tests.support.servers import Server

KEY = "a-key-for-measuring"
PROMPT_TOKENS, COMPARED = 20, 20
Answer = tuple[object, int]  # what was written, and how many tokens
Ask = Callable[[int], Awaitable[Answer]]  # the request of a number


def parse_args() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Time many clients beside one.")
    parser.add_argument("--n-layer", type=int, default=2)
    parser.add_argument("--n-embd", type=int, default=64, help="width; a head has 32")
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--clients", type=int, default=32)
    parser.add_argument("--new-tokens", type=int, default=128, help="of each answer")
    parser.add_argument("--seconds", type=float, default=60, help="of the many; a third of it for the one")
    parser.add_argument("--temperatures", type=float, nargs="+", default=[1.0, 0.0])
    return parser.parse_args()


def prompt_of(number: int) -> list[int]:
    return np.random.default_rng(number).integers(50256, size=PROMPT_TOKENS).tolist()


async def run_clients(ask: Ask, clients: int, seconds: float) -> tuple[float, dict[int, object]]:
    """Tokens per second of clients, each of which asks again when it has its answer; and all answers."""
    start, counter, answers, tokens = time.perf_counter(), iter(range(10**9)), {}, 0

    async def run_client() -> None:
        nonlocal tokens
        while time.perf_counter() - start < seconds:
            number = next(counter)
            answers[number], count = await ask(number)
            tokens += count

    await asyncio.gather(*(run_client() for _ in range(clients)))
    return tokens / (time.perf_counter() - start), answers


async def measure(ask: Ask, args: argparse.Namespace, label: str) -> None:
    """Print a row: one alone, many at once, and whether what the many got is the same alone."""
    await run_clients(ask, 2, 1)
    alone, _ = await run_clients(ask, 1, args.seconds / 3)
    together, answers = await run_clients(ask, args.clients, args.seconds)
    compared = random.Random(0).sample(sorted(answers), min(COMPARED, len(answers)))
    for number in compared:
        assert (await ask(number))[0] == answers[number], f"request {number} has another answer alone"
    row = f"{label} | {alone:,.0f} | {together:,.0f} | {together / alone:.2f} | {len(answers):,} | {len(compared)}"
    print(f"| {row} |", flush=True)


def measure_engine(args: argparse.Namespace, config: GPT2Config) -> None:
    engine = Engine(random_model(config, spread=0.05), args.batch_size, max_waiting=args.clients)
    for temperature in args.temperatures:

        async def ask(number: int, temperature: float = temperature) -> Answer:
            prompt = prompt_of(number)
            key = prompt_keys(jax.random.key(number), [prompt])[0]
            request = GenerationRequest(tuple(prompt), args.new_tokens, temperature, key=key)
            ids = [token async for piece in engine.stream(request) for token in piece]
            return ids, len(ids)

        asyncio.run(measure(ask, args, f"engine | {temperature:g}"))
    engine.close()


def measure_http(args: argparse.Namespace, config: GPT2Config) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save_hf(random_model(config, spread=0.05), Path(folder) / "tiny")
        limits = ("--batch-size", args.batch_size, "--max-waiting", args.clients)
        with Server("serve", Path(folder) / "tiny", "--port", 0, "--api-key", KEY, *limits) as server:
            for temperature in args.temperatures:

                async def ask(number: int, temperature: float = temperature) -> Answer:
                    body = {"model": "tiny", "prompt": prompt_of(number), "max_tokens": args.new_tokens}
                    body |= {"temperature": temperature, "seed": number, "stream": True}
                    body |= {"stream_options": {"include_usage": True}}
                    return await stream_completion(server.url, body)

                asyncio.run(measure(ask, args, f"HTTP | {temperature:g}"))


async def stream_completion(url: str, body: dict) -> Answer:
    """The text and the number of tokens of a streamed completion."""
    host, _, port = url.removeprefix("http://").rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    data = json.dumps(body).encode()
    head = [
        *("POST /v1/completions HTTP/1.1", f"Host: {host}:{port}", f"Authorization: Bearer {KEY}"),
        *("Content-Type: application/json", f"Content-Length: {len(data)}", "Connection: close", "", ""),
    ]
    writer.write("\r\n".join(head).encode() + data)
    text, tokens = "", 0
    async for line in reader:
        if line.startswith(b"HTTP/1.1"):
            assert b" 200 " in line, line
        if line.startswith(b"data: {"):
            event = json.loads(line.removeprefix(b"data: "))
            text += "".join(choice["text"] for choice in event["choices"])
            tokens = (event.get("usage") or {}).get("completion_tokens", tokens)
    writer.close()
    assert tokens, "the stream ended before its end"
    return text, tokens


def main() -> None:
    args = parse_args()
    config = GPT2Config(n_layer=args.n_layer, n_head=max(args.n_embd // 32, 1), n_embd=args.n_embd)
    count = sum(leaf.size for leaf in jax.tree.leaves(random_model(config))) / 1e6
    print(
        f"GPT-2 of {count:.1f}M parameters, {args.new_tokens} new tokens an answer, {args.batch_size} texts at a time, "
        f"{args.clients} clients, {len(os.sched_getaffinity(0))} CPU cores, load {os.getloadavg()[0]:.1f}"
    )
    print("| what | temperature | alone, tokens/s | together, tokens/s | ratio | answers | compared |")
    print("|---|---|---|---|---|---|---|")
    measure_engine(args, config)
    measure_http(args, config)


if __name__ == "__main__":
    main()
