import re
from pathlib import Path

import pytest

from jaxgpt.commands.erase.config import EraseConfig
from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError


def test_several_documents_and_folders_may_be_named():
    words = "data --doc train:1 val:2 --file a.txt --pattern x.y --runs runs old --apply"
    config = parse(EraseConfig, words.split())
    assert (config.folder, config.doc, config.runs) == (Path("data"), ("train:1", "val:2"), (Path("runs"), Path("old")))
    assert config.regex == re.compile("x.y") and config.apply and not config.delete


@pytest.mark.parametrize(
    "words, message",
    [
        ("data --pattern (", r"--pattern: no regular expression \(missing \), .*\); put a backslash before"),
        ("data --pattern a{99999999999999}", "--pattern: no regular expression"),
        (f"data --pattern {3000 * '('}{3000 * ')'}", "--pattern: no regular expression"),
        ("data --pattern (?L)a", "--pattern: no regular expression"),
        ("data --similar 2", "--similar 2.0 is out of range: it must be from 0 to 1"),
        ("data --doc train:1 --spans", "--spans has nothing to cut out; name it with --pattern"),
    ],
)
def test_what_can_not_be_is_refused(words, message):
    with pytest.raises(UsageError, match=message):
        parse(EraseConfig, words.split())
