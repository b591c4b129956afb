"""The flags of a server."""

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError
from jaxgpt.serving.config import ServerConfig


def test_the_hosts_are_those_of_this_machine_and_the_flags():
    config = parse(ServerConfig, ["--host", "0.0.0.0", "--allowed-hosts", "Chat.Example.org", "box"])
    assert config.hosts == {"localhost", "127.0.0.1", "::1", "0.0.0.0", "chat.example.org", "box"}


@pytest.mark.parametrize(
    "host, url",
    [("127.0.0.1", "http://127.0.0.1:80"), ("0.0.0.0", "http://localhost:80"), ("::1", "http://[::1]:80")],
)
def test_the_url_can_be_opened(host, url):
    assert ServerConfig(host=host).url(80) == url


@pytest.mark.parametrize(
    "words, message",
    [
        (["--port", "65536"], "--port 65536 is out of range: it must be from 0 to 65535"),
        (["--host", "http://x"], "'http://x' is no name of a host; write it as in a URL, without http://"),
        (["--allowed-hosts", "a/b"], "'a/b' is no name of a host"),
    ],
)
def test_wrong_flags_are_refused(words, message):
    with pytest.raises(UsageError) as error:
        parse(ServerConfig, words)
    assert str(error.value).startswith(message)
