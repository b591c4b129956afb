"""The flags of `jaxgpt serve`, and its key."""

import re

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.commands.serve import find_key
from jaxgpt.commands.serve.config import ServeConfig
from jaxgpt.errors import UsageError
from tests.support.commands import run_command


def test_flags_are_read():
    config = parse(ServeConfig, ["runs/chat", "--port", "0", "--allowed-hosts", "a.example", "b.example"])
    assert (config.model, config.server.port, config.server.host) == ("runs/chat", 0, "127.0.0.1")
    assert config.server.hosts == {"localhost", "127.0.0.1", "::1", "a.example", "b.example"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--batch-size", "0"], "--batch-size 0 is out of range: it must be from 1 to 4,096"),
        (["--max-waiting", "-1"], "--max-waiting -1 is out of range: it must be from 0 to 100,000"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0 is out of range: it must be from 1 to 1,000,000"),
        (["--timeout", "0"], "--timeout 0.0 is out of range: it must be above 0, and at most 86,400 seconds"),
        (["--timeout", "nan"], "--timeout nan is out of range: it must be above 0"),
        (["--api-key", "short"], "--api-key must be 8 to 200 letters, digits and . _ ~ -; leave it out for a random"),
        (["--api-key", "with a space"], "--api-key must be 8 to 200 letters"),
        (["--served-name", "a/b"], "--served-name 'a/b' must be 1 to 100 letters, digits and . _ : -"),
        (["--max-tokens", "5"], "--max-tokens: no such flag; did you mean --max-new-tokens?"),
    ],
)
def test_wrong_flags_are_one_line(words, message):
    ended = run_command(["serve", "runs/none", *words])
    assert (ended.code, ended.out, ended.problem) == (2, "", "") and message in ended.err


def test_a_model_that_is_not_there_is_one_line(tmp_path):
    ended = run_command(["serve", str(tmp_path / "none")])
    assert (ended.code, ended.problem) == (4, "") and "none: no such folder" in ended.err


def test_the_key_is_the_flag_or_the_variable_or_a_new_one(monkeypatch):
    monkeypatch.delenv("JAXGPT_API_KEY", raising=False)
    made = [find_key(ServeConfig("m")) for _ in range(2)]
    assert all(is_new and re.fullmatch(r"[\w-]{32}", key) for key, is_new in made) and made[0] != made[1]
    monkeypatch.setenv("JAXGPT_API_KEY", "of-the-variable")
    assert find_key(ServeConfig("m")) == ("of-the-variable", False)
    assert find_key(ServeConfig("m", api_key="of-the-flag")) == ("of-the-flag", False)
    monkeypatch.setenv("JAXGPT_API_KEY", "a wrong one")
    with pytest.raises(UsageError, match=r"^JAXGPT_API_KEY must be 8 to 200") as error:
        find_key(ServeConfig("m"))
    assert "wrong" not in str(error.value)
