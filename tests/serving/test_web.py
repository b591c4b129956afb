"""What handlers use: tokens, JSON, streams of events and pages."""

import asyncio
import base64
import hashlib
import json

import pytest

pytest.importorskip("starlette")

from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.web import EventStream, JSONResponse, holder_of_token, make_app, page_response, read_json
from tests.support.asgi import ask

HOSTS = ServerConfig().hosts
TOKENS = {"t0ken": "anna", "other": "ben"}


def make(handler, method="POST", **options):
    return make_app([(method, "/", handler)], HOSTS, **options)


@pytest.mark.parametrize(
    "headers, path, holder",
    [
        *(({"authorization": "Bearer t0ken"}, "/", "anna"), ({"authorization": "bearer  other "}, "/", "ben")),
        *(({"authorization": "Bearer t0ke"}, "/", None), ({"authorization": "Basic t0ken"}, "/", None)),
        *(({"authorization": "t0ken"}, "/", None), ({}, "/", None), ({"authorization": "Bearer \u00e9"}, "/", None)),
        *(
            ({}, "/?token=t0ken", "anna"),
            ({}, "/?token=", None),
            ({"authorization": "Bearer x"}, "/?token=t0ken", None),
        ),
    ],
)
def test_a_token_has_a_holder(headers, path, holder):
    async def handler(request):
        return JSONResponse(holder_of_token(request, TOKENS, in_url=True))

    answer = ask(make(handler), "POST", path, headers=headers)
    if holder:
        assert (answer.status, answer.json()) == (200, holder)
    else:
        assert answer.status == 401 and answer.json()["error"]["code"] == "invalid_api_key"
        assert answer.headers["www-authenticate"] == "Bearer"


@pytest.mark.parametrize("method, path, status", [("POST", "/v2", 404), ("GET", "/", 405)])
def test_a_path_or_a_method_that_is_not_there_is_named(method, path, status):
    answer = ask(make(read_json), method, path)
    message = answer.json()["error"]["message"]
    assert answer.status == status and repr(path) in message and (status == 404 or repr(method) in message)


def test_a_token_is_in_the_url_of_a_page_alone():
    async def handler(request):
        return JSONResponse(holder_of_token(request, TOKENS))

    assert ask(make(handler), "POST", "/?token=t0ken").status == 401


@pytest.mark.parametrize("body", [b"", b"[1]", b"nul", b"\xff", b'{"a": ' + b"[" * 99 + b"]" * 99 + b"}", b'"text"'])
def test_a_body_is_a_json_object(body):
    async def handler(request):
        return JSONResponse(await read_json(request))

    assert ask(make(handler), "POST", "/", b'{"a": 1}').json() == {"a": 1}
    answer = ask(make(handler), "POST", "/", body)
    assert answer.status == 400 and "body" in answer.json()["error"]["message"]


def test_any_text_of_a_request_can_be_in_an_answer():
    async def handler(request):
        content = await read_json(request)
        raise HttpError(400, "wrong", param=content["a"])

    for text in ("\ud800", "x\udfff\U0001f600é\\", "\0\u2028"):
        answer = ask(make(handler), "POST", "/", json.dumps({"a": text}).encode())
        assert answer.status == 400 and answer.json()["error"]["param"] == text


def test_events_are_lines_and_the_iterator_is_closed():
    closed = []

    async def events(fail_after):
        try:
            for number in range(3):
                if number == fail_after:
                    raise HttpError(429, "slow down")
                yield {"text": f"\u2028line\n{number}"}
        finally:
            closed.append(fail_after)

    async def handler(request):
        return EventStream(events(int(request.query_params["fail"])), last="[DONE]")

    app = make(handler, "GET")
    answer = ask(app, "GET", "/?fail=9")
    *texts, last = answer.events()
    assert [json.loads(text)["text"] for text in texts] == [f"\u2028line\n{i}" for i in range(3)] and last == "[DONE]"
    assert answer.headers["content-type"].startswith("text/event-stream") and "content-length" not in answer.headers
    assert ask(app, "GET", "/?fail=0").status == 429  # before the first event: a status
    late = ask(app, "GET", "/?fail=1").events()
    assert len(late) == 3 and json.loads(late[1])["error"]["message"] == "slow down"
    assert ask(app, "GET", "/?fail=9", leave_after=1).status == 200
    assert closed == [9, 0, 1, 9]


def test_a_page_runs_its_own_script_alone():
    async def handler(request):
        return page_response("<style>a{}</style><p>hi</p><script>go()</script>")

    policy = ask(make(handler, "GET"), "GET", "/").headers["content-security-policy"]
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    for tag, content in (("script", b"go()"), ("style", b"a{}")):
        assert rules[f"{tag}-src"] == f"'sha256-{base64.b64encode(hashlib.sha256(content).digest()).decode()}'"
    assert rules["default-src"] == rules["base-uri"] == rules["frame-ancestors"] == "'none'"


def test_the_end_of_the_server_is_announced():
    closed = []

    async def handler(request):
        return JSONResponse({})

    async def live():
        messages = [{"type": "lifespan.startup"}, {"type": "lifespan.shutdown"}]
        sent = []

        async def receive():
            return messages.pop(0)

        async def send(message):
            sent.append((message["type"], len(closed)))

        await make(handler, on_close=lambda: closed.append(1))({"type": "lifespan"}, receive, send)
        return sent

    assert asyncio.run(live()) == [("lifespan.startup.complete", 0), ("lifespan.shutdown.complete", 1)]
