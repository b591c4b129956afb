"""Multiple choice: only some items. Its numbers are the harness's: test_tasks.py."""

import json

from jaxgpt import console
from jaxgpt.commands import evaluate


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def test_only_the_first_items_and_no_number_where_there_is_none(folder, tmp_path, capsys):
    words = [
        "--choices",
        folder / "tasks" / "choose.jsonl",
        "--limit",
        1,
        "--batch-size",
        4,
        "--json",
        tmp_path / "out.json",
    ]
    assert run(folder / "hf", *words) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["choices"]["n"] == 1 and found["choices"]["acc_stderr"] is None
    assert "1 item" in capsys.readouterr().out
