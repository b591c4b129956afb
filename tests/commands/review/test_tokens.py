"""Secrets of annotators: kept, private, and one for each."""

import json

import pytest

from jaxgpt.commands.review.tokens import load_tokens, tokens_path
from jaxgpt.errors import DataError, UsageError


def test_a_token_stays_and_a_new_annotator_gets_one(tmp_path):
    out = tmp_path / "prefs.jsonl"
    first = load_tokens(out, ["anna", "ben"])
    assert [*first.values()] == ["anna", "ben"] and all(len(token) >= 20 for token in first)
    assert load_tokens(out, ["ben", "anna"]) == first
    more = load_tokens(out, ["anna", "eve"])
    assert {*more.values()} == {"anna", "eve"} and len({*first, *more}) == 3  # ben is not let in any more
    assert load_tokens(out, ["anna", "ben"]) == first
    path = tokens_path(out)
    assert path.name == "prefs.tokens.json" and json.loads(path.read_text()) == {
        name: token for token, name in (first | more).items()
    }


def test_only_its_owner_reads_the_file(tmp_path):
    out = tmp_path / "prefs.jsonl"
    load_tokens(out, ["anna"])
    assert tokens_path(out).stat().st_mode & 0o777 == 0o600
    tokens_path(out).chmod(0o644)
    load_tokens(out, ["anna", "ben"])
    assert tokens_path(out).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{", '{"anna": 1}', '{"anna": "short"}', '{"a": "same-token-012345", "b": "same-token-012345"}'],
)
def test_a_file_of_something_else_is_refused(tmp_path, content):
    tokens_path(tmp_path / "prefs.jsonl").write_text(content)
    with pytest.raises(DataError, match=r"prefs\.tokens\.json: .*; delete it, and all annotators get new addresses"):
        load_tokens(tmp_path / "prefs.jsonl", ["anna"])
    assert tokens_path(tmp_path / "prefs.jsonl").read_text() == content


def test_a_folder_that_is_not_there_is_one_line(tmp_path):
    with pytest.raises(UsageError, match="No such file or directory; choose a folder that can be written"):
        load_tokens(tmp_path / "none" / "prefs.jsonl", ["anna"])
