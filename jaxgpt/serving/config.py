"""Where a server listens, as flags."""

import dataclasses
import ipaddress
import re

from jaxgpt.errors import UsageError, require

LOCAL_NAMES = ("localhost", "127.0.0.1", "::1")
NAME = re.compile(r"[A-Za-z0-9._:-]{1,253}")


@dataclasses.dataclass(frozen=True)
class ServerConfig:
    """Where the server listens."""

    host: str = "127.0.0.1"
    """The address to listen on. 127.0.0.1 is reached from this machine alone; 0.0.0.0 from any, without encryption:
    put a proxy with TLS before it, and name it with --allowed-hosts."""
    port: int = 8000
    """The port; 0 takes a free one."""
    allowed_hosts: tuple[str, ...] = ()
    """Names by which the server may be called beside localhost, such as the one of a proxy before it."""

    def __post_init__(self):
        require(0 <= self.port < 2**16, "port", self.port, "from 0 to 65535")
        for name in (self.host, *self.allowed_hosts):
            if not NAME.fullmatch(name):
                raise UsageError(f"{name!r} is no name of a host; write it as in a URL, without http:// and a path")

    @property
    def hosts(self) -> frozenset[str]:
        """All names that a request may have in its Host header, without the port."""
        return frozenset(name.lower() for name in (*LOCAL_NAMES, self.host, *self.allowed_hosts))

    def url(self, port: int) -> str:
        """How a browser on this machine reaches the server."""
        host = "localhost" if self.host in ("0.0.0.0", "::") else self.host
        return f"http://{f'[{host}]' if _is_ipv6(host) else host}:{port}"


def _is_ipv6(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).version == 6
    except ValueError:
        return False
