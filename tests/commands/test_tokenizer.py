"""The command `tokenizer`. What its result is good for is in tests/integration/test_tokenizers.py."""

import io
import json
import sys

import pytest

from jaxgpt.commands import tokenizer
from jaxgpt.commands.tokenizer import TokenizerTrainConfig, read_texts
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.prepare.tokenize import is_validation
from tests.support.commands import run_command

WORDS = [f"{n}. A fox saw {n * n} ducks and {n % 7} dogs.\n" for n in range(4000)]


def test_each_part_is_trained_on_or_for_validation(tmp_path, monkeypatch):
    """Of documents of any kind, in order; broken ones and blank ones are left out."""
    records = [{"text": text} for text in WORDS[:50]] + [{"text": " "}, {"other": 3}]
    (tmp_path / "a.jsonl").write_text("".join(json.dumps(each) + "\n" for each in records))
    (tmp_path / "b.txt").write_text("".join(WORDS))
    inputs, val = (str(tmp_path / "a.jsonl"), str(tmp_path / "b.txt")), []
    config = TokenizerTrainConfig(inputs=inputs, out=tmp_path / "out")
    parts = list(read_texts(config, tmp_path, val))
    assert sorted(parts + val) == sorted([*WORDS[:50], *_cut("".join(WORDS), 5000)])
    assert 0.01 < sum(map(len, val)) / sum(map(len, WORDS)) < 0.15
    monkeypatch.setattr(tokenizer, "VAL_CHARS", len(val[0]))
    again = []
    assert len([*read_texts(config, tmp_path, again)]) + 1 == len(parts) + len(val) and again == val[:1]


def test_a_text_is_trained_on_where_all_of_it_would_be_for_validation(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text(next(word for word in WORDS if is_validation(word.encode(), tokenizer.VAL)))
    val = []
    config = TokenizerTrainConfig(inputs=(str(path),), out=tmp_path / "out")
    assert [*read_texts(config, tmp_path, val)] == [path.read_text()] and val == []


def _cut(text, most):
    """Parts of whole lines, each as long as it may be."""
    parts = [""]
    for line in text.splitlines(keepends=True):
        if len(parts[-1]) + len(line) > most:
            parts.append("")
        parts[-1] += line
    return parts


def test_bytes_per_token_are_those_of_the_validation_text(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("".join(WORDS).encode())))
    ended = run_command(
        ["tokenizer", "train", "-", "--vocab", "99999", "--out", str(tmp_path / "out"), "--workers", "2"]
    )
    assert (ended.code, ended.problem) == (0, "")
    trained, val = open_tokenizer(str(tmp_path / "out")), []
    (tmp_path / "b.txt").write_text("".join(WORDS))
    for _ in read_texts(TokenizerTrainConfig((str(tmp_path / "b.txt"),), tmp_path), tmp_path, val):
        pass
    size = sum(len(text.encode()) for text in val)
    ours, gpt2s = (size / sum(len(each.encode(text)) for text in val) for each in (trained, GPT2_TOKENIZER))
    assert f"val       {ours:.3f} bytes per token, and GPT-2's {gpt2s:.3f}, on {size:,} bytes\n" in ended.out
    fewer = "not 99,999: the text has no more pairs to merge"
    assert f"vocabulary {trained.vocab_size:,} token ids, {fewer}\n" in ended.out


@pytest.mark.parametrize("words", [["--help"], ["train", "--help"]])
def test_help(words, capsys):
    with pytest.raises(SystemExit):
        tokenizer.main(words)
    assert "tokenizer train" in capsys.readouterr().out
