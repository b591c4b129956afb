"""`jaxgpt agreement`: what it prints and writes, and what it refuses."""

import json
import random

import pytest

from jaxgpt import console
from jaxgpt.commands import agreement

SECRET = "Qwyjibo"


def run(*words):
    return console.run(agreement.main, [str(word) for word in words])


@pytest.fixture
def prefs(tmp_path):
    """Sixty items of two annotators, each of whom errs on a tenth, and what they could not decide."""
    draw, lines, undecided = random.Random(0), [], []
    models = [{"name": f"runs/{name}", "fingerprint": name * 16} for name in "ab"]
    for item in range(60):
        for name in ("anna", "ben"):
            winner = (item % 2) ^ (draw.random() < 0.1)
            record = {"item": item, "annotator": name, "prompt": SECRET, "models": models, "seconds": 3 + item % 5}
            record |= {"remark": SECRET, "topic": ["law", "art"][item % 2]}
            if item < 56 or name == "ben":
                lines.append(record | {"winner": winner, "choice": draw.choice((1, 2))})
            else:
                undecided.append(record | {"winner": None, "choice": ["tie", "skip"][item % 2]})
    for name, records in (("prefs.jsonl", lines), ("prefs.undecided.jsonl", undecided)):
        (tmp_path / name).write_text("".join(json.dumps(record) + "\n" for record in records))
    return tmp_path / "prefs.jsonl"


def test_it_prints_the_numbers_that_it_writes(prefs, tmp_path, capsys):
    page, numbers = tmp_path / "page.html", tmp_path / "numbers.json"
    assert run(prefs, "--out", page, "--json", numbers) == 0
    out, err = capsys.readouterr()
    summary = json.loads(numbers.read_text())
    lines = out.splitlines()
    assert lines[0] == ("judged    120 judgments by 2 annotators on 60 items: 116 decided, 2 ties, 2 skips; 0 edited")
    kappa = summary["kappa"][0]
    assert f"kappa     {kappa['kappa']:.2f} [{kappa['low']:.2f}, {kappa['high']:.2f}]: anna and ben" in out
    assert f"alike on {kappa['alike']} of 58 items" in out and kappa["low"] < 0.64 < kappa["high"]
    wins = [line for line in lines if line.startswith("wins")]
    assert len(wins) == 6 and "runs/a (aaaaaaaa), topic art, " in wins[2]
    assert (
        sum(line.startswith("position") for line in lines) == 3 and "time      5.0 s for an item (median): ben" in out
    )
    disputes = [dispute["item"] for dispute in summary["disputes"]]
    assert f"disputes  {len(disputes)} items: {', '.join(disputes)}" in lines
    assert lines[-2:] == [f"saved     {page}", f"saved     {numbers}"] and not err
    assert SECRET not in out and SECRET in page.read_text()  # on the page, which is asked for
    assert run(prefs, "--json", "/dev/null") == 0


def test_a_number_that_is_undefined_is_null(tmp_path, capsys):
    prefs, numbers = tmp_path / "prefs.jsonl", tmp_path / "numbers.json"
    prefs.write_text("".join(json.dumps({"item": 1, "annotator": name, "winner": 0}) + "\n" for name in "ab"))
    assert run(prefs, "--json", numbers) == 0
    assert json.loads(numbers.read_text())["kappa"][0]["kappa"] is None
    assert "kappa     undefined: a and b, alike on 1 of 1 item" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "FILE"),
        (["{prefs}", "--out", "page.txt"], 2, "give the page a name that ends in .html"),
        (["{prefs}", "--json", "{prefs}"], 2, "is FILE"),
        (["{prefs}", "--json", "{beside}"], 2, "is FILE"),
        (["{prefs}", "--json", "{foreign}"], 2, "exists already"),
        (["{prefs}", "--json", "{new}.html", "--out", "{new}.html"], 2, "give each a file of its own"),
        (["nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["{prefs}", "{foreign}"], 3, "line 1: no judgment of two answers"),
    ],
)
def test_what_is_wrong_is_refused_in_one_line(prefs, tmp_path, capsys, words, code, message):
    files = {"prefs": prefs, "beside": tmp_path / "prefs.undecided.jsonl", "foreign": tmp_path / "foreign.jsonl"}
    files["foreign"].write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    assert run(*(word.format(**files, new=tmp_path / "new") for word in words)) == code
    out, err = capsys.readouterr()
    assert err.startswith("error: ") and err.count("\n") == 1 and message in err and not out
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
