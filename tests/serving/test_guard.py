"""The door of a server, request by request, without a socket."""

import asyncio

import pytest

pytest.importorskip("starlette")

from jaxgpt.errors import DataError
from jaxgpt.serving import guard
from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.web import JSONResponse, make_app
from tests.support.asgi import ask, ask_async

HOSTS = ServerConfig(allowed_hosts=("chat.example.org",)).hosts


async def echo(request):
    return JSONResponse({"size": len(await request.body())})


async def fail(request):
    raise {"bug": ValueError("secret words"), "ours": DataError("line 3: wrong"), "http": HttpError(429, "slow down")}[
        request.path_params["how"]
    ]


APP = make_app([("POST", "/echo", echo), ("GET", "/fail/{how}", fail)], HOSTS)


@pytest.mark.parametrize(
    "host, status",
    [
        *(
            ("localhost", 200),
            ("localhost:8000", 200),
            ("LOCALHOST:1", 200),
            ("127.0.0.1:8000", 200),
            ("[::1]:80", 200),
        ),
        *(("chat.example.org", 200), ("evil.example.org", 400), ("localhost.evil.org", 400), ("", 400)),
        *(("localhost@evil.org", 400), ("localhost:80:80", 400), ("localhost evil", 400), ("[localhost]", 400)),
    ],
)
def test_a_request_is_for_this_host(host, status):
    answer = ask(APP, "POST", "/echo", headers={"host": host})
    assert answer.status == status
    if status == 400:
        assert "Host" in answer.json()["error"]["message"]


def test_two_hosts_are_none():
    assert ask(APP, "POST", "/echo", headers=[("host", "localhost"), ("host", "localhost")]).status == 400


@pytest.mark.parametrize(
    "origin, status",
    [
        *(("http://localhost:8000", 200), ("https://localhost:8000", 200), ("http://LOCALHOST:8000", 200)),
        *(("http://localhost", 403), ("http://localhost:8001", 403), ("http://evil.org", 403), ("null", 403)),
        *(("http://localhost:8000.evil.org", 403), ("file://localhost:8000", 403), ("http://a@localhost:8000", 403)),
        *(("http://[", 403), ("http://[::1]x", 403), ("http://localhost:8000/", 403), ("", 403)),
    ],
)
def test_a_page_asks_its_own_server_alone(origin, status):
    assert ask(APP, "POST", "/echo", headers={"host": "localhost:8000", "origin": origin}).status == status


def test_a_body_has_a_limit_whatever_its_length_says(monkeypatch):
    monkeypatch.setattr(guard, "MAX_BODY", 1000)
    assert ask(APP, "POST", "/echo", b"x" * 1000).json() == {"size": 1000}
    for options in ({}, {"headers": {"content-length": "10"}}, {"pieces": [b"x" * 600, b"x" * 600]}):
        assert ask(APP, "POST", "/echo", b"x" * 1001, **options).status == 413
    unread = ask(APP, "POST", "/echo", headers={"content-length": "9" * 400}, pieces=[None])
    assert unread.status == 413 and "1,000 bytes" in unread.json()["error"]["message"]


def test_a_body_that_does_not_come_is_not_waited_for(monkeypatch):
    monkeypatch.setattr(guard, "BODY_TIMEOUT_S", 0.05)
    assert ask(APP, "POST", "/echo", pieces=[b"x", None]).status == 408


@pytest.mark.parametrize(
    "how, status, type_",
    [("bug", 500, "server_error"), ("ours", 400, "invalid_request_error"), ("http", 429, "rate_limit_error")],
)
def test_whatever_goes_wrong_is_one_line_of_json(how, status, type_, capsys):
    answer = ask(APP, "GET", f"/fail/{how}")
    error = answer.json()["error"]
    assert (answer.status, error["type"]) == (status, type_) and answer.headers["content-type"] == "application/json"
    assert "secret" not in error["message"] and "\n" not in error["message"]
    noted = capsys.readouterr().err
    assert ("ValueError" in noted and "test_guard.py" in noted and "secret" not in noted) == (how == "bug")


@pytest.mark.parametrize(
    "method, path, status",
    [("GET", "/nothing", 404), ("GET", "/echo", 405), ("POST", "/echo/", 404), ("GET", "/../etc/passwd", 404)],
)
def test_there_are_no_other_paths(method, path, status):
    answer = ask(APP, method, path)
    assert answer.status == status and set(answer.json()["error"]) == {"message", "type", "param", "code"}


def test_every_response_forbids_a_browser_what_is_not_needed():
    for answer in (ask(APP, "POST", "/echo"), ask(APP, "GET", "/nothing"), ask(APP, "GET", "/", headers={"host": "x"})):
        assert answer.headers.items() >= guard.HEADERS.items()


def test_a_client_that_leaves_ends_its_request():
    ended = []

    async def wait(request):
        try:
            await asyncio.Future()
        finally:
            ended.append(True)

    app = make_app([("GET", "/", wait)], HOSTS)

    async def leave():
        await asyncio.wait_for(ask_async(app, "GET", "/", leave_after=0), 5)

    asyncio.run(leave())
    assert ended == [True]


def test_a_client_that_takes_nothing_is_left(monkeypatch):
    monkeypatch.setattr(guard, "SEND_TIMEOUT_S", 0.05)

    asked = [{"type": "http.request"}]

    async def send(message):
        await asyncio.Future()

    async def receive():
        return asked.pop() if asked else await asyncio.Future()

    async def stuck():
        scope = {"type": "http", "method": "POST", "path": "/echo", "query_string": b""}
        await asyncio.wait_for(APP(scope | {"headers": [(b"host", b"localhost")]}, receive, send), 5)

    asyncio.run(stuck())


def test_too_many_requests_are_refused(monkeypatch):
    monkeypatch.setattr(guard, "MAX_OPEN", 0)
    answer = ask(APP, "POST", "/echo")
    assert answer.status == 503 and answer.headers["retry-after"] == "1"
