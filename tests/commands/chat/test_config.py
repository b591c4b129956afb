"""The flags of `jaxgpt chat`."""

import pytest

from jaxgpt.commands.chat.config import ChatConfig
from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError


@pytest.mark.parametrize(
    "words, message",
    [
        (["--temperature", "-1"], "--temperature -1.0 is out of range: it must be a finite number, 0 or above"),
        (["--temperature", "inf"], "--temperature inf is out of range"),
        (["--top-k", "-1"], "--top-k -1 is out of range: it must be from 0 to 2**31 - 1"),
        (["--top-p", "0"], "--top-p 0.0 is out of range: it must be above 0, and at most 1"),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0 is out of range: it must be from 1 to 1,000,000"),
        (["--system", "caf\udce9"], "--system is not UTF-8"),
        (["--input", "-"], "--input -: stdin and stdout can't be used here"),
    ],
)
def test_a_wrong_flag_is_refused(words, message):
    with pytest.raises(UsageError) as refusal:
        parse(ChatConfig, ["run", *words])
    assert str(refusal.value).startswith(message)
