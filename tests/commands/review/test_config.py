"""Flags of `review` that are refused, and what the others say."""

from pathlib import Path

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.commands.review.config import ReviewConfig
from jaxgpt.errors import UsageError

WORDS = ["run", "--prompts", "p.jsonl", "--out", "x.jsonl"]


def test_flags_are_read():
    config = parse(ReviewConfig, [*WORDS, "--annotators", "anna, Jos\u00e9 B.", "--port", "0", "--top-k", "7"])
    assert config.runs == ("run",) and config.out == Path("x.jsonl") and config.server.port == 0
    assert config.names == ["anna", "Jos\u00e9 B."] and config.per_item == 1
    assert config.sampling == {"temperature": 0.8, "top_k": 7, "top_p": 1.0, "max_new_tokens": 256}
    greedy = parse(ReviewConfig, ["run", "run2", *WORDS[1:], "--temperature", "0"])
    assert greedy.runs == ("run", "run2") and greedy.names == ["annotator"]


@pytest.mark.parametrize(
    "words, message",
    [
        (["run2", "run3"], "3 models: name one or two"),
        (["--out", "x.json"], "--out x.json: give the file a name that ends in .jsonl"),
        (["--annotators", "a,b,a"], "--annotators a,b,a: two have one name"),
        (["--annotators", "a,,b"], "'' is no name"),
        (["--annotators", "<b>"], "'<b>' is no name"),
        (["--annotators", "x" * 41], "is no name; give different names"),
        (["--per-item", "2"], "--per-item 2 is out of range: it must be from 1 to the number of --annotators, 1"),
        (["--per-item", "0"], "--per-item 0 is out of range"),
        (["--temperature", "0"], "--temperature 0: both answers of one model would be the same"),
        (["--top-k", "1"], "--top-k 1: both answers of one model would be the same"),
        (["--temperature", "-1"], "--temperature -1.0 is out of range"),
        (["--top-p", "0"], "--top-p 0.0 is out of range"),
        (["--max-new-tokens", "0"], "--max-new-tokens 0 is out of range"),
        (["--seed", "-1"], "--seed -1 is out of range"),
        (["--out", "-"], "name that ends in .jsonl"),
        (["--out", "x.undecided.jsonl"], "--out x.undecided.jsonl: ties and skips of another --out have such a name"),
    ],
)
def test_wrong_flags_are_one_line(words, message):
    with pytest.raises(UsageError) as error:
        parse(ReviewConfig, [*(each for each in WORDS if each != "run"), "run", *words])
    assert message in str(error.value) and "\n" not in str(error.value)
