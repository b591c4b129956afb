"""An update from its flags to the link: what it measures, what it refuses, and that any kill leaves a whole state."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, export, inspect, sample, train, update
from jaxgpt.commands.update import gates
from jaxgpt.runs.lineage import read_lineage
from jaxgpt.runs.rows import read_rows

ROOT = Path(__file__).parents[2]
SHAPE = "--n-layer 1 --n-head 1 --n-embd 32 --block-size 16 --B 16 --T 16 --tokenizer bytes --device cpu"
TRAIN = f"{SHAPE} --data old.txt --val 0.2 --steps 80 --lr 1e-2 --recipe gpt3 --out runs/old"
UPDATE = "runs/old --data new.txt --val 0.2"


def run(main, words):
    return console.run(main, words.split() if isinstance(words, str) else words)


def write_texts():
    """Two languages: in each, a letter is followed by the next one, or now and then by the one after that."""
    draw = np.random.default_rng(0)
    for name, letters in (("old", "abcdef"), ("new", "uvwxyz")):
        at = np.cumsum(1 + (draw.random(4000) < 0.1)) % 6
        Path(f"{name}.txt").write_text("".join(letters[i] for i in at))
    choices = [{"context": "abcdefabcdef", "choices": ["abcdef", "uvwxyz"], "answer": 0}] * 20
    Path("choices.jsonl").write_text("".join(json.dumps(each) + "\n" for each in choices))


@pytest.fixture
def here(once, tmp_path, monkeypatch):
    """A run on the old language, and its texts, as the current folder."""

    def make(folder):
        monkeypatch.chdir(folder)
        write_texts()
        assert run(train.main, TRAIN) == 0

    shutil.copytree(once("update", make), tmp_path / "here", symlinks=True)
    monkeypatch.chdir(tmp_path / "here")
    config = json.loads(Path("runs/old/config.json").read_text())
    Path("runs/old/config.json").write_text(json.dumps(config | {"cwd": str(tmp_path / "here")}))
    return tmp_path / "here"


def losses(folder, text):
    """The loss on a text as `jaxgpt evaluate` has it."""
    Path("result.json").unlink(missing_ok=True)
    assert (
        run(evaluate.main, [str(folder), "--data", text, "--T", "16", "--json", "result.json", "--device", "cpu"]) == 0
    )
    return json.loads(Path("result.json").read_text())["loss"]


def test_without_replay_the_gate_refuses(here, capsys):
    words = f"{UPDATE} --steps 60 --replay 0 --gate choices=choices.jsonl --out runs/forgetful"
    assert run(update.main, words) == 6
    captured = capsys.readouterr()
    (error,) = [line for line in captured.err.splitlines() if line.startswith("error:")]
    assert re.search(
        r"runs/forgetful: not promoted: old loss on old.txt.* has changed by \+\d\.\d+ ± .*0.02 bey", error
    )
    assert not Path("runs/promoted").is_symlink()
    lineage = read_lineage(Path("runs/forgetful"))
    new, old, choices = lineage["gates"]
    assert lineage["promoted"] is False and old["change"] > 0.2 and not old["passed"] and new["passed"]
    assert (choices["before"], choices["passed"]) == (1, choices["after"] == 1)
    # The numbers are those of evaluate, and those that log.jsonl has of the last step.
    rows = read_rows(Path("runs/forgetful/log.jsonl"))
    assert rows[59]["val_loss"] == pytest.approx(new["after"], rel=1e-5)
    assert rows[59]["val_old_loss"] == pytest.approx(old["after"], rel=1e-5)
    assert [step for step, row in rows.items() if "val_old_loss" in row] == [*range(5, 60, 6)]
    assert losses("runs/forgetful", "new.txt[-0.2:]") == pytest.approx(new["after"], rel=1e-5)
    assert losses("runs/old", "old.txt[-0.2:]") == pytest.approx(old["before"], rel=1e-5)
    assert run(update.main, words) == 6  # nothing is trained, and nothing moves
    assert read_lineage(Path("runs/forgetful"))["gates"] == lineage["gates"]
    assert not Path("runs/promoted").is_symlink()


def test_what_passes_moves_the_link_and_has_its_lineage(here):
    words = f"{UPDATE} --steps 10 --lr 1e-4 --replay 0.3 --max-forgetting 0.05 --promoted runs/in_use --out runs/new"
    assert run(update.main, words) == 0
    assert os.readlink("runs/in_use") == "new" and not Path("runs/promoted").exists()
    lineage = read_lineage(Path("runs/new"))
    assert isinstance(lineage["promoted"], str) and all(gate["passed"] for gate in lineage["gates"])
    assert lineage["gates"][1]["limit"] == 0.05 and lineage["step"] == 10
    assert [(each["name"], each["share"], each["role"]) for each in lineage["data"]] == [
        ("new.txt[:-0.2]", 0.7, "new"),
        ("old.txt[:-0.2]", 0.3, "old"),
    ]
    (parent,) = lineage["parents"]
    assert (parent["run"], parent["step"]) == (str(here / "runs" / "old"), 80)
    metadata = json.loads(Path("runs/old/checkpoints/80/progress/metadata").read_text())
    assert parent["checkpoint_fingerprint"] == metadata["sha256"]


def test_an_update_that_is_done_stays_as_it_is(here, capsys):
    words = f"{UPDATE} --steps 2 --max-forgetting 9 --promoted runs/in_use --out runs/new"
    assert run(update.main, words) == 0
    capsys.readouterr()
    before = Path("runs/new/lineage.json").read_bytes()
    for name in ("runs/old", "runs/in_use"):  # by now RUN's own link is that to the new run
        assert run(update.main, words.replace("runs/old", name)) == 0
        assert "runs/new: has been promoted already" in capsys.readouterr().out
    assert Path("runs/new/lineage.json").read_bytes() == before
    assert run(update.main, f"{words} --replay 0.4") == 2
    assert "--out runs/new: another update has made that run" in capsys.readouterr().err


def test_the_link_is_a_run_for_every_command_and_for_the_next_update(here, capsys):
    Path("newest.txt").write_text("ghijkl" * 500)
    words = f"{UPDATE} --steps 2 --max-forgetting 9 --out runs/second"
    assert run(update.main, words) == 0 and os.readlink("runs/promoted") == "second"
    capsys.readouterr()
    for main, words in (
        (sample.main, "runs/promoted --prompt ab --max-new-tokens 2 --device cpu"),
        (evaluate.main, "runs/promoted --data old.txt --device cpu"),
        (export.main, "runs/promoted exported"),
    ):
        assert run(main, words) == 0
    words = "runs/promoted --data newest.txt --steps 2 --max-forgetting 9 --out runs/third"
    assert run(update.main, words) == 0 and os.readlink("runs/promoted") == "third"
    third = read_lineage(Path("runs/third"))
    shares = {each["name"].partition("[")[0]: each["share"] for each in third["data"]}
    assert shares == {"newest.txt": 0.95, "new.txt": pytest.approx(0.0475, rel=0.01), "old.txt": pytest.approx(0.0025)}
    assert [gate["name"] for gate in third["gates"]] == [
        "new loss on newest.txt[-0.1:]",
        "old loss on new.txt[-0.2:]",
        "old loss on old.txt[-0.2:]",
    ]
    # One that comes from a run before the one in use would undo what that has learned.
    code = run(update.main, f"{UPDATE} --steps 2 --max-forgetting 9 --out runs/late")
    assert code == 2 and "runs/late does not come from that run" in capsys.readouterr().err
    assert not Path("runs/late").exists()
    shutil.rmtree("runs/second")
    assert run(inspect.main, "runs/promoted --lineage") == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "runs/promoted" and lines[-1].startswith(f"└── {here}/runs/second, step 2, not there any more")
    assert sum("gate  old loss on" in line for line in lines) == 2


def test_a_gate_of_each_kind_measures(here):
    Path("answers.jsonl").write_text('{"prompt": "abcdef", "completion": "abcdef"}\n' * 3)
    words = "--gate data=old.txt generate=answers.jsonl choices=choices.jsonl"
    assert run(update.main, f"{UPDATE} --steps 1 --lr 1e-9 --max-forgetting 9 {words} --out runs/same") in (0, 6)
    before = {gate["name"].partition("=")[0]: gate["before"] for gate in read_lineage(Path("runs/same"))["gates"]}
    assert before["data"] == pytest.approx(losses("runs/old", "old.txt"), rel=1e-5)
    words = "--generate answers.jsonl --choices choices.jsonl --device cpu --json results.json"
    assert run(evaluate.main, f"runs/old {words}") == 0
    results = json.loads(Path("results.json").read_text())
    assert before["generate"] == pytest.approx(results["generate"]["f1"]["score"])
    assert before["choices"] == results["choices"]["acc"]


def test_what_would_be_refused_in_the_end_is_refused_before_anything_is_trained(here, capsys):
    Path("one.txt").write_text("a few words")
    Path("runs/promoted").mkdir()
    before = sorted(here.rglob("*"))
    for words, code, error in (
        ("", 2, "--promoted runs/promoted: exists, and is no link"),
        ("--promoted p --gate choices=missing.jsonl", 3, "missing.jsonl: no such file"),
        ("--promoted p --gate data=one.txt", 2, "needs two windows of 16 tokens or more, and there is 1"),
        ("--promoted p --old-val one.txt", 2, "old loss on one.txt: a standard error needs two windows"),
        ("--promoted runs/out", 2, "--promoted runs/out is --out, too"),
    ):
        assert run(update.main, f"{UPDATE} --out runs/out {words}") == code
        assert error in capsys.readouterr().err and sorted(here.rglob("*")) == before


def test_a_loss_that_is_not_a_number_is_not_promoted(here, monkeypatch, capsys):
    measured = []

    def measure(plan, all_gates, weights):
        measured.append(0)
        value = np.nan if len(measured) > 1 else 1.0
        return [gates.make_sums([value, value]) for _ in all_gates]

    monkeypatch.setattr(update, "measure", measure)
    assert run(update.main, f"{UPDATE} --steps 1 --out runs/new") == 6
    assert "old loss on old.txt[-0.2:] is not a number ± nan" in capsys.readouterr().err
    assert not Path("runs/promoted").exists() and read_lineage(Path("runs/new"))["gates"][1]["after"] is None


@pytest.mark.parametrize("write", [0, 1])
def test_an_update_that_ends_between_its_records_is_finished_by_the_same_command(here, monkeypatch, write):
    """After lineage.json was written, but the link was not moved; and after that, but before the record of it."""
    words, written = f"{UPDATE} --steps 2 --max-forgetting 9 --out runs/new", []
    real = update.write_lineage

    class KilledError(BaseException):
        """Ends the command as a kill does."""

    def write_lineage(*args):
        if len(written) == write:
            real(*args) if write == 0 else None
            raise KilledError
        written.append(real(*args))

    monkeypatch.setattr(update, "write_lineage", write_lineage)
    with pytest.raises(KilledError):
        run(update.main, words)
    assert Path("runs/promoted").is_symlink() == bool(write) and read_lineage(Path("runs/new"))["promoted"] is False
    monkeypatch.setattr(update, "write_lineage", real)
    assert run(update.main, words) == 0
    assert os.readlink("runs/promoted") == "new" and read_lineage(Path("runs/new"))["promoted"]


def test_a_run_that_was_trained_on_is_not_judged(here, monkeypatch, capsys):
    monkeypatch.setattr(update, "newest_step", lambda folder: 3)
    assert run(update.main, f"{UPDATE} --steps 2 --out runs/new") == 4
    assert "a run that was trained on is not judged" in capsys.readouterr().err and not Path("runs/promoted").exists()


@pytest.mark.slow
def test_kills_at_any_moment_leave_the_old_promotion_or_the_new_one(here):
    """SIGKILL at random moments of the whole, and just when the records are written; the end is as without.

    tests/runs/test_promotion.py kills between any two changes of the link.
    """
    link, lineage_file = Path("runs/promoted"), Path("runs/new/lineage.json")
    words = f"{UPDATE} --steps 60 --max-forgetting 0.05 --replay 0.3 --flags save-every=5"
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAX_PLATFORMS": "cpu"}

    def start(words):
        command = [sys.executable, "-m", "jaxgpt", "update", *words.split()]
        return subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    began, draw, seen = time.monotonic(), random.Random(0), []
    with start(f"{words} --promoted elsewhere --out runs/whole") as process:
        assert process.wait() == 0
    duration = time.monotonic() - began
    link.symlink_to("old")
    words = words.replace("runs/old", "runs/promoted") + " --out runs/new"
    for trial in range(5):
        with start(words) as process:
            if trial < 2:
                time.sleep(draw.uniform(0.3, 1.0) * duration)
            else:  # the training is done by now, or soon
                while process.poll() is None and not lineage_file.exists():
                    time.sleep(0.0005)
                time.sleep(draw.uniform(0, 0.01))
            process.kill()
        assert process.returncode in (0, -signal.SIGKILL)
        seen.append(os.readlink(link))
        lineage = read_lineage(Path("runs/new"))  # whole, or not there
        assert seen[-1] in ("old", "new")
        assert seen[-1] == "old" or all(gate["passed"] for gate in lineage["gates"])
        assert not (lineage and lineage["promoted"]) or seen[-1] == "new"
        if trial < 4:
            link.unlink()
            link.symlink_to("old")
            lineage_file.unlink(missing_ok=True)
    with start(words) as process:
        assert process.wait() == 0
    assert os.readlink(link) == "new"
    whole, killed = (read_lineage(Path("runs", name)) for name in ("whole", "new"))
    assert whole["gates"] == killed["gates"] and whole["data"] == killed["data"] and killed["promoted"]
    metadata = [Path("runs", name, "checkpoints/60/progress/metadata").read_text() for name in ("whole", "new")]
    assert len({json.dumps(json.loads(text)["fingerprint"]) for text in metadata}) == 1
