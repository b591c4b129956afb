"""The paths of the server, asked in this process."""

import asyncio
import json
import random
import re

import pytest

pytest.importorskip("starlette", reason="needs starlette: pip install -r requirements-serve.txt")
from jaxgpt.commands.serve.app import Api
from jaxgpt.serving.openai_api import Limits
from jaxgpt.serving.token_stream import DeadlineError, EngineError, QueueFullError
from jaxgpt.serving.web import make_app, read_page
from tests.support.asgi import ask, ask_async
from tests.support.http_fuzz import draw_request

KEY = "secret-key"
WITH_KEY = {"authorization": f"Bearer {KEY}"}
LIMITS = Limits("tiny", max_texts=8, max_new_tokens=40)
COMPLETION = {"model": "tiny", "prompt": "ab", "seed": 1}
CHAT = {"model": "tiny", "messages": [{"role": "user", "content": "Hi"}]}
HOSTILE = "</p><img src=x onerror=alert(1)><script>alert(1)</script>"


@pytest.fixture
def app(served):
    return make_app(Api(served, KEY, LIMITS, timeout_s=9).routes(), frozenset({"localhost"}))


def test_a_completion(app, served):
    served.engine.answers = [[b"c", b"d", "stop"], [b"e", "length"]]
    answer = ask(app, "POST", "/v1/completions", {**COMPLETION, "n": 2}, WITH_KEY)
    read = answer.json()
    assert answer.status == 200 and [each["text"] for each in read["choices"]] == ["cd", "e"]
    assert [each["finish_reason"] for each in read["choices"]] == ["stop", "length"]
    assert read["usage"] == {"prompt_tokens": 2, "completion_tokens": 3, "total_tokens": 5}
    assert re.fullmatch("cmpl-[0-9a-f]{24}", read["id"]) and read["system_fingerprint"] == served.fingerprint


@pytest.mark.parametrize("is_chat", [True, False])
def test_a_stream_has_the_text_of_the_whole(app, served, is_chat):
    path, body = ("/v1/chat/completions", CHAT) if is_chat else ("/v1/completions", COMPLETION)
    pieces = [b" one", b" two", HOSTILE.encode(), "stop"]
    served.engine.answers = [pieces, pieces]
    (choice,) = ask(app, "POST", path, body, WITH_KEY).json()["choices"]
    options = {"stream": True, "stream_options": {"include_usage": True}}
    answer = ask(app, "POST", path, body | options, WITH_KEY)
    *events, last = answer.events()
    *chunks, usage = map(json.loads, events)
    assert last == "[DONE]" and answer.headers["content-type"].startswith("text/event-stream")
    pieces = [each["choices"][0] for each in chunks]
    read = [each["delta"].get("content", "") if is_chat else each["text"] for each in pieces]
    whole = choice["message"]["content"] if is_chat else choice["text"]
    assert "".join(read) == whole == ("" if is_chat else " ") + "one two" + HOSTILE
    assert [each["finish_reason"] for each in pieces if each["finish_reason"]] == ["stop"]
    assert not is_chat or pieces[0]["delta"] == {"role": "assistant", "content": ""}
    assert usage["choices"] == [] and usage["usage"]["completion_tokens"] == 8 + len(HOSTILE)
    assert len({each["id"] for each in [*chunks, usage]}) == 1
    assert "<" in whole and answer.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("stream", [True, False])
@pytest.mark.parametrize(
    "answer, status, code",
    [
        (QueueFullError("full"), 429, "rate_limit_exceeded"),
        ([DeadlineError("late")], 503, "timeout"),
        ([EngineError("out of memory")], 500, "engine_error"),
    ],
)
def test_an_error_before_the_first_token_has_its_status(app, served, answer, status, code, stream):
    served.engine.answers = [answer]
    refused = ask(app, "POST", "/v1/completions", COMPLETION | {"stream": stream}, WITH_KEY)
    assert (refused.status, refused.json()["error"]["code"]) == (status, code)
    assert (refused.headers.get("retry-after") == "1") == (status != 500)


def test_an_error_within_a_stream_is_its_last_event(app, served):
    served.engine.answers = [[b"a", EngineError("out of memory")]]
    answer = ask(app, "POST", "/v1/completions", COMPLETION | {"stream": True}, WITH_KEY)
    first, error, last = answer.events()
    assert json.loads(first)["choices"][0]["text"] == "a" and last == "[DONE]"
    assert json.loads(error)["error"]["message"] == "out of memory"


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_leaves_frees_its_place(app, served, stream):
    served.engine.answers = [[b"a", b"b", asyncio.Event()]]  # it never ends

    async def leave():
        pieces = [json.dumps(COMPLETION | {"stream": stream}).encode()]
        asked = ask_async(app, "POST", "/v1/completions", b"", WITH_KEY, pieces=pieces, leave_after=2 if stream else 0)
        return await asyncio.wait_for(asked, 5)

    asyncio.run(leave())
    assert served.engine.streams[0].is_closed


def test_models(app):
    listed = ask(app, "GET", "/v1/models", headers=WITH_KEY).json()
    (model,) = listed["data"]
    assert listed["object"] == "list" and (model["id"], model["max_model_len"]) == ("tiny", 64)
    assert ask(app, "GET", "/v1/models/tiny", headers=WITH_KEY).json() == model
    missing = ask(app, "GET", "/v1/models/other", headers=WITH_KEY)
    assert missing.status == 404 and missing.json()["error"]["code"] == "model_not_found"


def test_metrics_and_health(app, served):
    assert ask(app, "GET", "/health").json() == {"status": "ok"}
    metrics = ask(app, "GET", "/metrics", headers=WITH_KEY)
    assert metrics.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert "\njaxgpt_texts_running 2\n" in metrics.body.decode()
    assert '\njaxgpt_texts_total{outcome="cancelled"} 3\n' in metrics.body.decode()


@pytest.mark.parametrize("method, path", [
    ("GET", "/metrics"), ("GET", "/v1/models"), ("GET", "/v1/models/tiny"), ("GET", "/"),
    ("POST", "/v1/completions"), ("POST", "/v1/chat/completions"),
])  # fmt: skip
def test_nobody_gets_anything_without_the_key(app, method, path):
    headers = [{}, {"authorization": KEY}, {"authorization": "Bearer wrong"}, {"authorization": f"Basic {KEY}"}]
    for each in [*headers, {"cookie": f"token={KEY}"}, {"authorization": f"Bearer {KEY}x"}]:
        refused = ask(app, method, path, COMPLETION, each)
        assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
        assert KEY not in refused.body.decode() and refused.json()["error"]["code"] == "invalid_api_key"
    in_url = ask(app, method, f"{path}?token={KEY}", COMPLETION)
    assert in_url.status == (200 if path == "/" else 401)


def test_the_page_has_all_of_it_in_one_file(app):
    page = ask(app, "GET", f"/?token={KEY}")
    text = page.body.decode()
    assert text == read_page("chat.html") and "text/html" in page.headers["content-type"]
    assert not re.search(r"https?://|//\w|@import|url\(|\son\w+=|innerHTML|outerHTML|insertAdjacentHTML|eval\(", text)
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy and "unsafe" not in policy and "connect-src 'self'" in policy


@pytest.mark.parametrize("path", [
    "/../../etc/passwd", "/pages/chat.html", "/v1/models/..%2f..%2fpyproject.toml", "/v1/models/../../README.md",
    "/static/chat.html", "/%2e%2e/%2e%2e/etc/passwd", "/v1/", "//", "/v1/models/",
])  # fmt: skip
def test_no_path_leaves_its_folder(app, path):
    refused = ask(app, "GET", path, headers=WITH_KEY)
    assert refused.status == 404 and refused.json()["error"]["message"]


@pytest.mark.parametrize("num_requests", [500, pytest.param(10_000, marks=pytest.mark.slow)])
def test_random_requests_get_an_answer_or_an_error_in_json(app, served, num_requests):
    """Over sockets, and with a real model, it is tests/commands/test_serve.py."""
    served.engine.answers = [[b"a", b"b", "stop"]] * 8 * num_requests
    draw, statuses = random.Random(num_requests), set()

    async def ask_all():
        for number in range(num_requests):
            method, path, headers, body = draw_request(draw, KEY)
            answer = await ask_async(app, method, path.encode().decode("latin-1"), body, headers)
            statuses.add(answer.status)
            if answer.status == 200:
                assert b"choices" in answer.body or method != "POST", number
            else:
                error = answer.json()["error"]
                assert 400 <= answer.status < 500 and "\n" not in error["message"] and error["type"], (number, answer)

    asyncio.run(ask_all())
    assert {200, 400, 401, 403, 404, 405, 413} <= statuses
    assert all(stream.is_closed for stream in served.engine.streams)
