"""Requests to an ASGI application in this process, without a socket."""

import asyncio
import dataclasses
import json


@dataclasses.dataclass
class Answer:
    """What came back: the status, the headers by their lower-case names, and all bytes of the body."""

    status: int
    headers: dict[str, str]
    body: bytes

    def json(self):
        return json.loads(self.body)

    def events(self):
        """The data of server-sent events, as text."""
        lines = self.body.decode().split("\n\n")
        assert lines.pop() == "" and all(line.startswith("data: ") and "\n" not in line for line in lines)
        return [line.removeprefix("data: ") for line in lines]


async def ask_async(app, method, path, body=b"", headers=(), *, leave_after=None, pieces=None):
    """One request; `body` may be bytes, or anything that is sent as JSON.

    Args:
      headers: {name: value}, or pairs, if one comes twice; without a Host it is localhost.
      leave_after: parts of the answer after which the client is gone.
      pieces: the body in pieces, None for one that never comes.
    """
    headers = list(headers.items() if isinstance(headers, dict) else headers)
    if not any(name.lower() == "host" for name, _ in headers):
        headers.append(("host", "localhost"))
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    path, _, query = path.partition("?")
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.3"},
        "http_version": "1.1",
        "method": method,
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in headers],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 8000),
    }
    waiting = list(pieces if pieces is not None else [content])
    gone, status, parts = asyncio.Event(), {}, []
    if leave_after == 0:
        gone.set()

    async def receive():
        if waiting:
            piece = waiting.pop(0)
            if piece is None:
                await asyncio.Future()
            return {"type": "http.request", "body": piece, "more_body": bool(waiting)}
        await gone.wait()
        return {"type": "http.disconnect"}

    async def send(message):
        if message["type"] == "http.response.start":
            status.update(message)
        else:
            parts.append(message.get("body", b""))
        if leave_after is not None and len(parts) >= leave_after:
            gone.set()
        await asyncio.sleep(0)

    await app(scope, receive, send)
    given = {name.decode(): value.decode() for name, value in status.get("headers", [])}
    return Answer(status.get("status", 0), given, b"".join(parts))


def ask(app, *arguments, **options):
    """As `ask_async`, in an event loop of its own."""
    return asyncio.run(ask_async(app, *arguments, **options))
