"""A server as a process: where it listens, how it ends, and what it answers to what is no HTTP."""

import contextlib
import json
import signal
import socket
import threading

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")

from jaxgpt.errors import UsageError
from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.server import bind, run_server
from jaxgpt.serving.web import make_app
from tests.support.servers import Server

PROGRAM = """
import asyncio, sys
from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.server import bind, run_server
from jaxgpt.serving.web import EventStream, JSONResponse, make_app

async def hello(request):
    return JSONResponse("hello")

async def events():
    while True:
        yield {}
        await asyncio.sleep(0.01)

async def sleep(request):
    await asyncio.sleep(60)

async def endless(request):
    return EventStream(events())

config = ServerConfig(port=0)
routes = [("GET", "/", hello), ("GET", "/endless", endless), ("GET", "/sleep", sleep)]
app = make_app(routes, config.hosts, lambda: print("closed"))
sys.exit(run_server(app, bind(config), lambda port: print(config.url(port))))
"""


def raw(server, content):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=10) as connection:
        connection.sendall(content)
        connection.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: connection.recv(1 << 16), b""))


def test_a_server_answers_until_a_signal_ends_it():
    answers = []
    with Server(code=PROGRAM) as server:
        status, headers, body = server.ask("GET", "/")
        assert (status, json.loads(body)) == (200, "hello") and "Server" not in headers
        duplicate = b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n"
        for garbage in (b"\x00\xff" * 50 + b"\r\n\r\n", b"GET\r\n\r\n", duplicate):
            head, _, error = raw(server, garbage).partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 400") and set(json.loads(error)["error"]) >= {"message", "type"}
        with contextlib.suppress(OSError):  # it need not read all of it before it refuses
            long = raw(server, b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 10**6 + b"\r\n\r\n")
            assert long.startswith(b"HTTP/1.1 400") or not long
        reader = threading.Thread(target=lambda: raw(server, b"GET /endless HTTP/1.1\r\nHost: localhost\r\n\r\n"))
        reader.start()
        sleeper = threading.Thread(target=lambda: answers.append(server.ask("GET", "/sleep")))
        sleeper.start()
        assert server.ask("GET", "/")[0] == 200
        assert server.stop(signal.SIGINT) == 130
        reader.join(10)
        sleeper.join(10)
        status, headers, body = answers[0]
        assert status == 503 and "stopping" in json.loads(body)["error"]["message"] and headers["retry-after"] == "5"
        assert server.output.split("\n")[1:] == ["", "stopping", "closed", ""] and not reader.is_alive()


def test_a_server_that_can_not_say_where_it_is_ends():
    def announce(port):
        raise BrokenPipeError

    config, closed = ServerConfig(port=0), []
    with bind(config) as listening, pytest.raises(BrokenPipeError):
        run_server(make_app([], config.hosts, lambda: closed.append(True)), listening, announce)
    assert closed == [True]


IDLE = (
    "import resource; from jaxgpt.serving import server; server.REQUEST_TIMEOUT_S = 1.0; "
    "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))" + PROGRAM
)


def test_idle_connections_are_closed_and_their_crowd_is_one_note():
    pytest.importorskip("resource")
    with Server(code=IDLE) as server, contextlib.ExitStack() as stack:
        host, port = server.url.removeprefix("http://").split(":")
        idle = [stack.enter_context(socket.create_connection((host, int(port)))) for _ in range(100)]
        idle[0].settimeout(10)
        assert idle[0].recv(1) == b""  # closed
        assert server.ask("GET", "/", timeout=10)[0] == 200
        server.stop()
    assert server.output.split("\n")[1:] == [
        "note: new connections have to wait: Too many open files", "", "stopping", "closed", ""
    ]  # fmt: skip


def test_a_port_that_is_taken_is_refused_in_one_line():
    with bind(ServerConfig(port=0)) as listening:
        port = listening.getsockname()[1]
        with pytest.raises(UsageError, match=rf"--port {port}: .*choose another port"):
            bind(ServerConfig(port=port))
    for host in ("203.0.113.7", "300.1.1.1"):
        with pytest.raises(UsageError, match=rf"--host {host} .*choose an address that this machine has"):
            bind(ServerConfig(host=host))


@pytest.mark.parametrize("host", ["a..b", ".", "a" * 64 + ".org"])
def test_a_name_that_no_host_can_have_is_refused_in_one_line(host):
    with pytest.raises(UsageError, match=r"^--host \S+: .*give this machine's address"):
        bind(ServerConfig(port=0, host=host))
