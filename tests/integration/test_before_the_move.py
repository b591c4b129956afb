"""What jaxgpt wrote before its modules moved is read as before: checkpoints, labels, adapters, prepared folders.

support/made_before.py has made it, and the numbers with it.
"""

import json
import tarfile
from pathlib import Path

import pytest

from jaxgpt import commands, console

SUPPORT = Path(__file__).parents[1] / "support"
EXPECTED = json.loads((SUPPORT / "before_the_move.json").read_text())
RUN = "--init-from base --B 2 --T 16 --lr 3e-3 --device cpu"
GPT3 = "--recipe gpt3 --schedule constant --warmup-ratio 0"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """The archive's content, in the current folder."""
    with tarfile.open(SUPPORT / "before_the_move.tar.xz") as archive:
        archive.extractall(tmp_path / "before", filter="data")
    monkeypatch.chdir(tmp_path / "before")


def run(words, *more):
    assert console.run(commands.main, [*words.split(), *more]) == 0


def last_row(out):
    return json.loads(Path(out, "log.jsonl").read_text().splitlines()[-1])


def near(expected):
    return pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("out, flags", [("text", GPT3), ("adapters", "--lora 2")])
def test_a_run_resumes(out, flags, capsys):
    run(f"train {RUN} {flags} --data text.txt --steps 4 --out {out}")
    assert f"{out}: resumes from step 3, position 96, to 4 steps" in capsys.readouterr().out
    row, expected = last_row(out), EXPECTED[out]
    assert row["step"] == expected["step"] == 3
    assert row["loss"] == near(expected["loss"])
    assert row["grad_norm"] == pytest.approx(expected["grad_norm"], rel=1e-4)


def test_a_run_writes_and_is_measured(capsys):
    run("sample text --temperature 0 --max-new-tokens 12 --prompt", "word1 word2")
    assert capsys.readouterr().out == EXPECTED["sample"]
    run("evaluate text --data prepared --json evaluate.json")
    assert json.loads(Path("evaluate.json").read_text())["loss"] == near(EXPECTED["evaluate"])


def test_a_run_on_labels_classifies(capsys):
    run("predict labels --data labels.csv")
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["label"] for line in lines] == [line["label"] for line in EXPECTED["predict"]]
    for line, expected in zip(lines, EXPECTED["predict"], strict=True):
        assert line["probabilities"] == pytest.approx(expected["probabilities"], rel=1e-5)


def test_a_prepared_folder_is_trained_on():
    run(f"train {RUN} {GPT3} --data prepared --steps 1 --out trained")
    row, config = last_row("trained"), json.loads(Path("trained/config.json").read_text())
    assert config["fingerprint"] == EXPECTED["fingerprint"]
    assert row["loss"] == near(EXPECTED["trained"]["loss"])
