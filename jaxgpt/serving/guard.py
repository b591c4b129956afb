"""The door of a server: who may ask, how much, and for how long; whatever goes wrong behind it is one line of JSON.

A browser sends what any page asks it to, to this machine's servers too. So a foreign Origin is refused, and so is a
foreign Host, by which a name that resolves to this machine is used ("DNS rebinding").
"""

import asyncio
import contextlib
import json
import re
import traceback
from collections.abc import Callable, Mapping
from typing import Any

from jaxgpt import console
from jaxgpt.errors import JaxgptError

MAX_BODY = 1 << 20  # bytes of a request
BODY_TIMEOUT_S = SEND_TIMEOUT_S = 30.0  # for a request's body, and for a client to take a part of the answer
MAX_OPEN = 512  # requests at a time; more are refused at once
HEADERS = {
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "cross-origin-resource-policy": "same-origin",
    "cache-control": "no-store",
}
TYPES = {401: "authentication_error", 403: "permission_error", 404: "not_found_error", 429: "rate_limit_error"}


class HttpError(Exception):
    """A request that can't be answered.

    Attributes:
      status: of HTTP.
      code: a word for the error, OpenAI's where it has one; None: the status says enough.
      param: the field of the request that is wrong; None: no single one.
      body: OpenAI's JSON of an error: its text in one line, its type, code and param.
      headers: of the response.
    """

    def __init__(
        self,
        status: int,
        message: str,
        code: str | None = None,
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
    ):
        super().__init__(message)
        self.status, self.code, self.param, self.headers = status, code, param, dict(headers or {})
        type_ = TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
        self.body: dict[str, Any] = {"error": {"message": message, "type": type_, "param": param, "code": code}}


def as_http_error(error: Exception) -> HttpError:
    """An error of ours as the client shall see it; what is in a bug's text stays here."""
    if isinstance(error, HttpError):
        return error
    if isinstance(error, JaxgptError):
        return HttpError(400, str(error))
    return HttpError(500, "an internal error, which the server has reported")


async def _send_error(error: HttpError, send: Callable) -> None:
    body = json.dumps(error.body).encode()
    headers = {"content-type": "application/json", "content-length": str(len(body)), **error.headers}
    pairs = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": error.status, "headers": pairs})
    await send({"type": "http.response.body", "body": body})


class Guard:
    """An ASGI application before another one: checks who asks and how much, and ends what nobody waits for.

    A client that leaves cancels the handler of its request.
    """

    def __init__(self, app: Callable, hosts: frozenset[str]):
        self._app, self._hosts, self._open = app, hosts, 0

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_started = False

        async def send_guarded(message: dict) -> None:
            nonlocal is_started
            if message["type"] == "http.response.start":
                is_started = True
                given = {name.lower() for name, _ in message["headers"]}
                missing = ((name.encode(), value.encode()) for name, value in HEADERS.items())
                message["headers"] = [*message["headers"], *(each for each in missing if each[0] not in given)]
            async with asyncio.timeout(SEND_TIMEOUT_S):
                await send(message)

        self._open += 1
        try:
            await self._answer(scope, receive, send_guarded)
        except asyncio.CancelledError:  # the server ends, and waits for no handler any more
            if not is_started:
                stopping = HttpError(503, "the server is stopping; try again later", headers={"retry-after": "5"})
                await _send_error(stopping, send_guarded)
            raise
        except Exception as error:  # a handler's fault must not be the server's end
            if not isinstance(error, HttpError):
                _report(scope, error)
            if not is_started:
                await _send_error(as_http_error(error), send_guarded)
        finally:
            self._open -= 1

    async def _answer(self, scope: dict, receive: Callable, send: Callable) -> None:
        self._check(scope["headers"])
        body = await _read_body(scope, receive)
        messages = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> dict:
            return messages.pop() if messages else await asyncio.Future()  # `watch` knows when the client leaves

        async def watch() -> None:
            while (await receive())["type"] != "http.disconnect":
                pass

        tasks = [asyncio.ensure_future(self._app(scope, replay, send)), asyncio.ensure_future(watch())]
        try:
            await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await tasks[0]

    def _check(self, headers: list[tuple[bytes, bytes]]) -> None:
        if self._open > MAX_OPEN:
            raise HttpError(503, f"{MAX_OPEN} requests are open; try again later", headers={"retry-after": "1"})
        hosts = [value.decode("latin-1") for key, value in headers if key == b"host"]
        origins = [value.decode("latin-1") for key, value in headers if key == b"origin"]
        name = _host_name(hosts[0]) if len(hosts) == 1 else ""
        if name not in self._hosts:
            raise HttpError(400, "the Host header names another server; a proxy's name is given with --allowed-hosts")
        for origin in origins:
            if origin.lower() not in (f"{scheme}://{hosts[0].lower()}" for scheme in ("http", "https")):
                raise HttpError(403, "the request comes from another site's page (Origin header)")


def _host_name(host: str) -> str:
    """The name in a Host header, "" if it is none."""
    match = re.fullmatch(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|([A-Za-z0-9._-]+)(?::\d{1,5})?", host)
    return (match[1] or match[2]).lower() if match else ""


async def _read_body(scope: dict, receive: Callable) -> bytes:
    too_long = HttpError(413, f"the request has more than {MAX_BODY:,} bytes")
    length = dict(scope["headers"]).get(b"content-length", b"0")
    if length.isdigit() and int(length[:20]) > MAX_BODY:
        raise too_long
    parts, size = [], 0
    try:
        async with asyncio.timeout(BODY_TIMEOUT_S):
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    raise HttpError(400, "the request ended in its body")
                parts.append(message.get("body", b""))
                size += len(parts[-1])
                if size > MAX_BODY:
                    raise too_long
                if not message.get("more_body"):
                    return b"".join(parts)
    except TimeoutError:
        raise HttpError(408, f"the request's body took more than {BODY_TIMEOUT_S:g} seconds") from None


def _report(scope: dict, error: Exception) -> None:
    """A note of where an error was raised; not of its text, which may quote a request."""
    if isinstance(error, TimeoutError | OSError):  # the client takes nothing, or is gone
        return
    frame = traceback.extract_tb(error.__traceback__)[-1]
    console.note(
        f"internal error in {scope['method']} request: {type(error).__name__}, {frame.filename}:{frame.lineno}"
    )
