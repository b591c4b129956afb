"""`jaxgpt serve` as a process: OpenAI's client, many clients at once, noise, and how it begins and ends."""

import asyncio
import contextlib
import http.client
import itertools
import json
import random
import re
import signal
import socket
import time

import jax
import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from jaxgpt.data.chat import CHAT_TEMPLATE
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference.generate import generate
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load_hf, save_hf
from tests.support.commands import run_command
from tests.support.http_fuzz import draw_request
from tests.support.models import random_model
from tests.support.servers import Server

CONFIG = GPT2Config(vocab_size=257, block_size=128, n_layer=1, n_head=2, n_embd=32)
KEY = "secret-key"
WITH_KEY = {"Authorization": f"Bearer {KEY}"}
CHAT = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder, tokenizer = tmp_path_factory.mktemp("models") / "tiny", ByteTokenizer()
    files = tokenizer.hugging_face_files(chat_template=CHAT_TEMPLATE)
    save_hf(random_model(CONFIG, 0.3), folder, others=files, tokenizer=tokenizer)
    return folder


@pytest.fixture(scope="module")
def server(folder):
    words = ["serve", folder, "--port", 0, "--batch-size", 4, "--max-waiting", 60]
    with Server(*words, env={"JAXGPT_API_KEY": KEY}) as server:
        yield server
        assert server.stop() == 128 + signal.SIGTERM
        lines = server.output.splitlines()
        assert [line.split()[0] for line in lines if line] == ["serving", "chat", "api", "key", "stopping"]
        assert KEY not in server.output  # nor anything that was asked or answered


@pytest.fixture
def client(server):
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key=KEY, max_retries=0) as client:
        yield client


def metrics(server):
    """The values without labels other than an outcome, by their names."""
    status, _, content = server.ask("GET", "/metrics", headers=WITH_KEY)
    assert status == 200
    lines = re.findall(r'^jaxgpt_(\w+)(?:\{outcome="(\w+)"\})? (\S+)$', content.decode(), re.MULTILINE)
    return {outcome or name: float(value) for name, outcome, value in lines}


def wait_until_idle(server, seconds=10):
    """The metrics when no text is written and none waits."""
    end = time.monotonic() + seconds
    while (now := metrics(server))["texts_running"] + now["texts_waiting"]:
        assert time.monotonic() < end, now
        time.sleep(0.01)
    return now


def generate_alone(folder, prompt, n, **settings):
    """What `sample` writes."""
    ids = [ByteTokenizer().encode_prompt(prompt)] * n
    written = generate(load_hf(folder), ids, 20, jax.random.key(5), stop=256, **settings)
    return [bytes(new).decode("utf-8", "replace") for new in written]


@pytest.mark.parametrize("settings", [{"temperature": 0}, {"temperature": 0.7, "top_k": 20, "top_p": 0.9}])
def test_openais_client_completes_and_streams(client, folder, settings):
    """With the texts that the model writes alone."""
    ours = {"top_k": settings["top_k"]} if "top_k" in settings else {}
    theirs = {name: value for name, value in settings.items() if name != "top_k"}
    options = {"model": "tiny", "seed": 5, "max_tokens": 20, "n": 3, "extra_body": ours, **theirs}
    whole = client.completions.create(prompt="Once", **options)
    texts = [choice.text for choice in whole.choices]
    expected = generate_alone(folder, "Once", 3, **settings)
    cut = [text.rstrip("\ufffd") for text in expected]  # half a character at the end is left out
    assert [text.rstrip("\ufffd") for text in texts] == cut and whole.usage.completion_tokens <= 60
    streamed = [""] * 3
    for chunk in client.completions.create(prompt="Once", stream=True, **options):
        for choice in chunk.choices:
            streamed[choice.index] += choice.text
    assert streamed == texts


def test_openais_client_chats(client):
    options = {"model": "tiny", "seed": 7, "messages": CHAT, "max_completion_tokens": 30}
    answer = client.chat.completions.create(**options)
    content = answer.choices[0].message.content
    assert answer.choices[0].finish_reason in ("stop", "length") and answer.usage.prompt_tokens == 20
    chunks = list(client.chat.completions.create(stream=True, stream_options={"include_usage": True}, **options))
    assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks[:-1]) == content
    assert chunks[-1].usage == answer.usage and chunks[-2].choices[0].finish_reason == answer.choices[0].finish_reason
    cut = client.chat.completions.create(stop=content[10:12], **options)
    assert (
        cut.choices[0].finish_reason == "stop"
        and cut.choices[0].message.content == content.partition(content[10:12])[0]
    )
    (model,) = client.models.list().data
    assert client.models.retrieve("tiny") == model and model.id == "tiny"


def test_openais_client_understands_errors(client, server):
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.AuthenticationError, match="the request has a wrong key"):
        client.with_options(api_key="wrong-key").models.list()
    with pytest.raises(openai.NotFoundError, match="there is no model") as missing:
        client.completions.create(model="gpt-9", prompt="a")
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.BadRequestError, match="do not fit into the model's context of 128") as too_long:
        client.completions.create(model="tiny", prompt="a" * 128)
    assert too_long.value.code == "context_length_exceeded"
    with pytest.raises(openai.BadRequestError, match="'logprobs' is not supported") as unsupported:
        client.chat.completions.create(model="tiny", messages=CHAT, logprobs=True)
    assert unsupported.value.param == "logprobs"
    options = {"model": "tiny", "prompt": "a", "n": 64, "max_tokens": 100}  # as many texts as there are places
    with client.completions.create(stream=True, **options) as stream, pytest.raises(openai.RateLimitError):
        next(iter(stream))
        client.completions.create(**options)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(server, stream):
    before = wait_until_idle(server)
    connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
    body = {"model": "tiny", "prompt": "a", "n": 60, "max_tokens": 120, "stream": stream}
    connection.request("POST", "/v1/completions", json.dumps(body), WITH_KEY)
    if stream:
        response = connection.getresponse()
        assert response.status == 200 and response.readline().startswith(b"data: ")
        response.close()
    else:
        while metrics(server)["texts_running"] < 4:
            pass
    connection.close()
    assert wait_until_idle(server)["cancelled"] > before["cancelled"] + 30


@pytest.mark.slow
def test_32_clients_at_once_get_what_one_client_gets(server):
    """For 5 seconds here, and for a minute in benchmarks/serving.py; every other text is a stream."""
    openai = pytest.importorskip("openai")
    sampling = [{"temperature": 0}, {"temperature": 0.7, "extra_body": {"top_k": 20}}, {"top_p": 0.9}, {}]
    bodies = [
        {"model": "tiny", "prompt": f"{n} is " * (1 + n % 9), "seed": n, "max_tokens": 40, **sampling[n % 4]}
        for n in range(24)
    ]

    async def ask(client, number):
        if number % 2:
            return (await client.completions.create(**bodies[number])).choices[0].text
        chunks = await client.completions.create(stream=True, **bodies[number])
        return "".join([chunk.choices[0].text async for chunk in chunks])

    async def ask_often(client, order, until):
        texts = []
        for number in itertools.cycle(order):
            texts.append((number, await ask(client, number)))
            if time.monotonic() > until:
                return texts

    async def run_all():
        options = {"base_url": f"{server.url}/v1", "api_key": KEY, "max_retries": 0}
        async with openai.AsyncOpenAI(**options) as client:
            alone = [await ask(client, number) for number in range(24)]
            orders, until = [random.Random(n).sample(range(24), 24) for n in range(32)], time.monotonic() + 5
            return alone, await asyncio.gather(*(ask_often(client, order, until) for order in orders))

    alone, together = asyncio.run(run_all())
    texts = [each for client in together for each in client]
    assert [(number, text) for number, text in texts if text != alone[number]] == []
    assert len(set(alone)) > 20 and {number for number, _ in texts} == set(range(24)) and len(texts) > 100


@pytest.mark.parametrize("headers, status", [
    ({"Host": "evil.example"}, 400), ({"Origin": "http://evil.example"}, 403), ({"Origin": "null"}, 403),
    ({"Host": "localhost"}, 200), ({"Authorization": "Bearer no"}, 401), ({"Authorization": ""}, 401),
])  # fmt: skip
def test_who_is_let_in(server, headers, status):
    answer = server.ask("GET", "/v1/models", headers=WITH_KEY | headers)
    assert answer[0] == status and ("error" in json.loads(answer[2])) == (status != 200)


def test_the_servers_own_page_is_let_in(server):
    assert server.ask("GET", "/v1/models", headers=WITH_KEY | {"Origin": server.url})[0] == 200


def send_raw(server, content, is_whole=False):
    """What comes back for any bytes, after which the client sends no more, unless they are a whole request."""
    host, _, port = server.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=20) as connection:
        received = b""
        with contextlib.suppress(ConnectionResetError, BrokenPipeError):
            connection.sendall(content)
            if not is_whole:
                connection.shutdown(socket.SHUT_WR)
            while part := connection.recv(1 << 16):
                received += part
    return received


def check_raw(received):
    """An error of HTTP in JSON, or an answer; nothing, where a request did not end."""
    if received:
        head, _, body = received.partition(b"\r\n\r\n")
        status = int(re.match(rb"HTTP/1\.1 (\d+) ", head)[1])
        assert 200 <= status < 500
        if status >= 400:
            assert json.loads(body.partition(b"HTTP/1.1")[0])["error"]["message"]
        return status


def raw_request(draw):
    """A random request as bytes, and whether it is whole, so that there must be an answer."""
    method, path, headers, body = draw_request(draw, KEY)
    headers = [("host", "localhost")] * (not any(name == "host" for name, _ in headers)) + headers
    if not any(name == "content-length" for name, _ in headers):
        headers.append(("content-length", str(len(body))))
    lines = [f"{method} {path} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "connection: close", "", ""]
    content = "\r\n".join(lines).encode("utf-8") + body
    if draw.random() < 0.7:
        return content, True
    at = draw.randrange(len(content))
    noise = (content[:at], draw.randbytes(200), content[:at] + draw.randbytes(9) + content[at:], content * 2)
    return draw.choice(noise), False


@pytest.mark.parametrize("num_requests", [100, pytest.param(1000, marks=pytest.mark.slow)])
def test_noise_on_the_socket(server, num_requests):
    draw, statuses = random.Random(num_requests), set()
    for _ in range(num_requests):
        content, is_whole = raw_request(draw)
        statuses.add(status := check_raw(send_raw(server, content, is_whole)))
        assert status or not is_whole
    assert {200, 400} <= statuses
    for content in (b"", b"\0" * 1000, b"\x16\x03\x01\x02\x00\x01", b"GET / HTTP/9.9\r\n\r\n", b"\r\n" * 100):
        check_raw(send_raw(server, content))
    assert check_raw(send_raw(server, b"GET / HTTP/1.1\r\nhost: localhost\r\nx: " + b"y" * 200_000)) == 400
    assert server.process.poll() is None and server.ask("GET", "/health")[0] == 200


@pytest.mark.slow
def test_ctrl_c_ends_the_server_and_its_open_streams(folder):
    """One that has a key of its own, as none was given, and a name."""
    with Server("serve", folder, "--port", 0, "--served-name", "my-model", "--batch-size", 1) as server:
        with_key = {"Authorization": f"Bearer {server.token}"}
        status, _, content = server.ask("GET", "/v1/models", headers=with_key)
        assert status == 200 and json.loads(content)["data"][0]["id"] == "my-model"
        connection = http.client.HTTPConnection(server.url.removeprefix("http://"), timeout=20)
        body = {"model": "my-model", "prompt": "a", "max_tokens": 120, "n": 30, "stream": True}
        connection.request("POST", "/v1/completions", json.dumps(body), with_key)
        response = connection.getresponse()
        assert response.readline().startswith(b"data: ")
        began = time.monotonic()
        assert server.stop(signal.SIGINT) == 128 + signal.SIGINT and time.monotonic() - began < 10
        with contextlib.suppress(http.client.IncompleteRead):
            response.read()
        connection.close()
        assert re.search(r"^key +(\S+)$", server.output, re.MULTILINE)[1] == server.token
        assert "Traceback" not in server.output and "error" not in server.output


def test_a_port_that_is_taken_is_one_line(folder):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        ended = run_command(["serve", str(folder), "--port", str(taken.getsockname()[1])])
    assert (ended.code, ended.problem) == (2, "") and "--port 0 for a free one" in ended.err
