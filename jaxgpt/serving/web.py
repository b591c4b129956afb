"""HTTP on Starlette: routes, JSON in and out, streams of events, and pages."""

import base64
import contextlib
import hashlib
import hmac
import importlib.resources
import json
import re
import reprlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from jaxgpt.errors import JaxgptError, UsageError
from jaxgpt.json_file import parse_json
from jaxgpt.serving.guard import Guard, HttpError, as_http_error

NO_SERVER = "a server needs starlette and uvicorn: pip install -r requirements-serve.txt"
try:
    from starlette import routing
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.requests import Request
    from starlette.responses import HTMLResponse, Response
except ImportError:
    raise UsageError(NO_SERVER) from None

FORBIDDEN = ("base-uri", "form-action", "frame-ancestors")  # which default-src does not cover

Handler = Callable[[Request], Awaitable[Response]]
Route = tuple[str, str, Handler]  # (method, path, handler)


class JSONResponse(Response):
    """JSON; half of a surrogate pair, which a request's JSON may have, is escaped as it was there."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
        return text.encode("utf-8", "backslashreplace")


def make_app(routes: Sequence[Route], hosts: frozenset[str], on_close: Callable[[], object] = lambda: None) -> Guard:
    """The ASGI application of some routes.

    Args:
      routes: a path may have parts such as {name}, which the handler finds in request.path_params.
      hosts: names that a request's Host may have, of ServerConfig.hosts.
      on_close: called when the server ends.
    """

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        yield
        on_close()

    async def describe(request: Request, error: Exception) -> Response:
        if isinstance(error, HTTPException):  # Starlette's own: no such path, or not by this method
            path, method = reprlib.repr(request.url.path), reprlib.repr(request.method)
            what = {404: f"there is no path {path} here", 405: f"{path} does not take {method}"}.get(
                error.status_code, str(error.detail)
            )
            error = HttpError(error.status_code, what, headers=error.headers)
        error = as_http_error(error)
        return JSONResponse(error.body, error.status, error.headers)

    table = [routing.Route(path, handler, methods=[method]) for method, path, handler in routes]
    handled = dict.fromkeys((HTTPException, HttpError, JaxgptError, Exception), describe)
    app = Starlette(routes=table, exception_handlers=handled, lifespan=lifespan)
    app.router.redirect_slashes = False  # a redirect would name the host that the request names
    return Guard(app, hosts)


def holder_of_token(request: Request, tokens: Mapping[str, str], in_url: bool = False) -> str:
    """Whose token a request has.

    Args:
      tokens: {token: its holder}.
      in_url: whether it may be in the URL, as ?token=..., for a page that is opened by a link.

    Raises:
      HttpError: 401, it has none, or a wrong one.
    """
    scheme, _, given = request.headers.get("authorization", "").partition(" ")
    if in_url and not given:
        scheme, given = "bearer", request.query_params.get("token", "")
    given = given.strip().encode()
    holders = [holder for token, holder in tokens.items() if hmac.compare_digest(token.encode(), given)]
    if scheme.lower() != "bearer" or not holders:
        what = f"the request has {'a wrong key' if given else 'no key'}; send Authorization: Bearer KEY"
        if in_url:
            what = "open the whole address that the server has printed, with ?token= and what follows"
        raise HttpError(401, what, "invalid_api_key", headers={"www-authenticate": "Bearer"})
    return holders[0]


async def read_json(request: Request) -> dict[str, Any]:
    """The JSON object that a request sends.

    Raises:
      HttpError: 400, it sends something else.
    """
    try:
        content = parse_json(await request.body())
    except ValueError as error:
        raise HttpError(400, f"the request's body is not JSON ({error})") from None
    if not isinstance(content, dict):
        raise HttpError(400, "the request's body must be a JSON object")
    return content


class EventStream(Response):
    """Server-sent events: `data: ...` lines, each of which is JSON or a text of one line.

    An error before the first event has its own status; one after it is the last event. `events` is closed when the
    client leaves.
    """

    def __init__(self, events: AsyncIterator[dict[str, Any] | str], last: str = ""):
        super().__init__(media_type="text/event-stream")
        self._events, self._last = events, last

    async def __call__(self, scope: dict, receive: Callable, send: Callable) -> None:
        headers = [each for each in self.raw_headers if each[0] != b"content-length"]
        is_started = False

        async def write(event: dict[str, Any] | str, more: bool = True) -> None:
            nonlocal is_started
            if not is_started:
                await send({"type": "http.response.start", "status": 200, "headers": headers})
                is_started = True
            text = event if isinstance(event, str) else json.dumps(event)
            body = f"data: {text}\n\n".encode() if text else b""
            await send({"type": "http.response.body", "body": body, "more_body": more})

        async with contextlib.aclosing(self._events) as events:
            try:
                async for event in events:
                    await write(event)
            except HttpError as error:
                if not is_started:
                    raise
                await write(error.body)
            await write(self._last, more=False)


def read_page(name: str) -> str:
    """The HTML of a file in pages/."""
    return (importlib.resources.files("jaxgpt.serving") / "pages" / name).read_text("utf-8")


def page_response(page: str) -> Response:
    """An HTML page of one file, whose own <script> and <style> run, and nothing else; it may ask this server alone."""
    rules = ["default-src 'none'; connect-src 'self'", *(f"{name} 'none'" for name in FORBIDDEN)]
    for tag in ("script", "style"):
        parts = re.findall(rf"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        hashes = (base64.b64encode(hashlib.sha256(part.encode()).digest()).decode() for part in parts)
        rules.append(f"{tag}-src " + (" ".join(f"'sha256-{each}'" for each in hashes) or "'none'"))
    return HTMLResponse(page, headers={"content-security-policy": "; ".join(rules)})
