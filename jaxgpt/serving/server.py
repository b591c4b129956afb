"""A server on uvicorn: the port is bound before anything is promised, and a signal ends it in order."""

import asyncio
import contextlib
import errno
import json
import logging
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from jaxgpt import console, signals
from jaxgpt.errors import UsageError
from jaxgpt.serving.config import ServerConfig
from jaxgpt.serving.guard import HttpError
from jaxgpt.serving.web import NO_SERVER

try:
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol
except ImportError:
    raise UsageError(NO_SERVER) from None

REQUEST_TIMEOUT_S = 30.0  # for a connection's first request to name its path and headers
GRACE_S = 3  # for open answers, when the server ends
MAX_HEADER = 1 << 16  # bytes of a request's first line and headers
STOPPING = b"\nstopping\n"


def bind(config: ServerConfig) -> socket.socket:
    """A socket that listens where the flags say.

    Raises:
      UsageError: the address is not this machine's, or the port is taken.
    """
    with contextlib.ExitStack() as on_error:
        try:
            infos = socket.getaddrinfo(config.host, config.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
            family, kind, protocol, _, address = infos[0]
            listening = on_error.enter_context(socket.socket(family, kind, protocol))
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # for the port of a server that was killed
            listening.bind(address)
            listening.listen(1024)
        except UnicodeError:  # a label of a name that is empty, or longer than 63 characters
            raise UsageError(
                f"--host {config.host}: no name that a host can have; give this machine's address"
            ) from None
        except OSError as error:
            where, reason = f"--host {config.host} --port {config.port}", error.strerror or error
            advice = "choose another port, or --port 0 for a free one"
            if isinstance(error, socket.gaierror) or error.errno == errno.EADDRNOTAVAIL:
                advice = "choose an address that this machine has, such as 127.0.0.1"
            raise UsageError(f"{where}: {reason}; {advice}") from None
        on_error.pop_all()
    return listening


def run_server(app: Callable, listening: socket.socket, announce: Callable[[int], object]) -> int:
    """Answer requests until a signal comes; returns the exit code 128 + n.

    Args:
      app: an ASGI application.
      listening: of `bind`.
      announce: called with the port when requests are answered.
    """
    silence = {"log_config": None, "log_level": "critical", "access_log": False, "server_header": False}
    limits = {"timeout_graceful_shutdown": GRACE_S, "h11_max_incomplete_event_size": MAX_HEADER}
    options = {"ws": "none", "loop": "asyncio", "lifespan": "on", "proxy_headers": False}
    config = uvicorn.Config(app, http=_Protocol, **options, **silence, **limits)
    with signals.stop_signals(STOPPING) as received:
        server = _Server(config)
        asyncio.run(_serve(server, listening, announce, received))
    return 128 + received[0] if received else 0


async def _serve(
    server: "_Server", listening: socket.socket, announce: Callable[[int], object], received: list[int]
) -> None:
    async def watch() -> None:
        try:
            while not server.started:
                await asyncio.sleep(0.01)
            announce(listening.getsockname()[1])
            while not received:
                await asyncio.sleep(0.1)
        finally:  # a signal, or nobody reads what is announced
            server.should_exit = True

    asyncio.get_running_loop().set_exception_handler(_Notes())
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)  # it warns of each client that has left
    watcher = asyncio.ensure_future(watch())
    try:
        await server.serve(sockets=[listening])
        if watcher.done():
            watcher.result()
    finally:
        watcher.cancel()


class _Server(uvicorn.Server):
    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Signals are signals.stop_signals' affair."""
        yield


class _Notes:
    """Says in a line what asyncio would print with a traceback; each once a minute, for clients can cause it."""

    def __init__(self):
        self._next: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if isinstance(error, OSError):  # such as EMFILE; asyncio tries again after a second
            text = f"new connections have to wait: {error.strerror or type(error).__name__}"
        else:
            text = f"internal error in the server: {type(error).__name__}"
        if self._next.get(text, 0.0) <= time.monotonic():
            self._next[text] = time.monotonic() + 60
            console.note(text)


class _Protocol(H11Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:
        """A connection that asks nothing is closed, or idle ones could take all that the system allows."""
        super().connection_made(transport)
        self.loop.call_later(REQUEST_TIMEOUT_S, lambda: self.cycle or transport.close())

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets JSON as an answer, too; after it the connection is closed."""
        body = json.dumps(HttpError(400, "the request is not HTTP").body).encode()
        head = f"HTTP/1.1 400 Bad Request\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n"
        self.transport.write(f"{head}connection: close\r\n\r\n".encode() + body)
        self.transport.close()
