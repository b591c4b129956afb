"""Nothing of a document is in what is printed, reported or logged, and no other user can read what a command keeps."""

import contextlib
import io
import json
import os
from pathlib import Path

import pytest

from jaxgpt import commands, console
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER
from jaxgpt.errors import DataError
from jaxgpt.inference.multiple_choice import read_items

SECRET = "Ada Lovelace, 1815"
RECORD = json.dumps({"text": SECRET, "label": SECRET})
FILES = {  # each has the secret, and is wrong in one way or another
    "headerless.csv": f'"{SECRET}",7\n"{SECRET}",8\n',
    "alike.csv": f'"{SECRET}","{SECRET}"\na,b\n',
    "ragged.csv": f'text,label\n"{SECRET}",1,2\n',
    "quotes.csv": f'text,label\n"{SECRET}" and,1\n',
    "headerless.tsv": f"{SECRET}\t{SECRET}\na\tb\n",
    "list.jsonl": json.dumps({"text": [SECRET], "label": 1, "prompt": SECRET}) + "\n",
    "label.jsonl": json.dumps({"text": "a", "label": {"a": SECRET}}) + "\n",
    "one.jsonl": f"{RECORD}\n{RECORD}\n",
    "labels.jsonl": f'{RECORD}\n{RECORD.replace("1815", "1852")}\n{{"text": "a", "label": "b"}}\n' * 9,
    "chat.jsonl": json.dumps({"messages": [SECRET]}) + "\n",
    "role.jsonl": json.dumps({"messages": [{"role": SECRET, "content": SECRET}]}) + "\n",
    "broken.jsonl": f'{{"text": "{SECRET}\n',
    "number.jsonl": f'{{"text": {SECRET}}}\n',
    "scalar.jsonl": json.dumps(SECRET) + "\n",
    "surrogate.jsonl": json.dumps({"text": SECRET + "\ud800", "label": 1}) + "\n",
    "latin1.txt": SECRET.encode() + b"\xe9",
    "plain.gz": SECRET,
    "plain.parquet": SECRET,
    "plain.bin": SECRET + "odd",
    "items.jsonl": json.dumps({"context": [SECRET], "choices": SECRET, "answer": SECRET}) + "\n",
    "choices.jsonl": json.dumps({"context": "a", "choices": [SECRET, {"a": SECRET}], "answer": SECRET}) + "\n",
    "answer.jsonl": json.dumps({"context": "a", "choices": [SECRET, "b"], "answer": SECRET}) + "\n",
}


def run(words: str) -> tuple[int, str]:
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        return console.run(commands.main, words.split()), out.getvalue()


def quotes(text: str) -> bool:
    return any(part in text for part in (SECRET, "Ada", "'A", "1815", "1852"))


@pytest.fixture
def filled(tmp_path):
    for name, content in FILES.items():
        (tmp_path / name).write_bytes(content.encode() if isinstance(content, str) else content)
    with contextlib.chdir(tmp_path):
        yield tmp_path


def test_no_error_quotes_a_document(filled):
    wrong = []
    for name in FILES.keys() - {"labels.jsonl"}:
        trains = (f"train --data {name}", f"train --data labels.jsonl --val {name}", f"train --data {name} --val 0.5")
        for words in trains[:: 2 if name == "one.jsonl" else 1]:  # which is all right as --val
            code, printed = run(f"{words} --out run --B 2 --T 8")
            if code not in (2, 3) or quotes(printed):
                wrong.append((words, code, printed))
        if name.endswith(("items.jsonl", "choices.jsonl", "answer.jsonl")):
            with pytest.raises(DataError) as error:
                read_items(name, 99, GPT2_TOKENIZER)
            wrong += [str(error.value)] * quotes(str(error.value))
    code, printed = run("train --data labels.jsonl --val 0.95 --out run --B 2 --T 8")
    assert wrong == [] and code == 3 and "leaves no example of" in printed and not quotes(printed)


def test_no_report_of_a_preparation_quotes_a_document(filled):
    names = [name for name in FILES if not name.endswith((".bin", "labels.jsonl", "one.jsonl", "scalar.jsonl"))]
    code, printed = run(f"prepare {' '.join(names)} scalar.jsonl --out out --pii replace --workers 1 --min-chars 9999")
    dropped = (filled / "out" / "dropped.jsonl").read_text()
    assert code == 3 and not quotes(printed + dropped)
    assert {json.loads(line)["file"] for line in dropped.splitlines()} == {*names, "scalar.jsonl"}


@pytest.mark.slow
def test_what_is_prepared_and_trained_is_the_users_alone(tmp_path, cache):
    (tmp_path / "text.txt").write_text(f"{SECRET}. " * 99)
    before = os.umask(0o022)
    try:
        with contextlib.chdir(tmp_path):
            assert run("prepare text.txt --out prepared --workers 1")[0] == 0
            shape = "--n-layer 1 --n-head 1 --n-embd 4 --block-size 8"
            assert run(f"train --data text.txt --out run --B 2 --T 8 --steps 1 --device cpu {shape}")[0] == 0
            assert run("inspect prepared")[0] == 0
        paths = [path for root in (tmp_path / "prepared", tmp_path / "run", cache) for path in (root, *root.rglob("*"))]
        assert len(paths) > 30 and Path(cache / "tokens") in paths
        assert [path for path in paths if path.stat().st_mode & 0o077] == []
    finally:
        assert os.umask(before) == 0o022
