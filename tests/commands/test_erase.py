"""The command with real runs: what they resume to is, bit for bit, the run from scratch on what is left."""

import os
import random
import shlex
import subprocess
import sys

import pytest

from jaxgpt.commands import erase, export, train, update, verify
from jaxgpt.errors import CheckpointError, DataError, RetryableError, UsageError
from jaxgpt.locks import hold
from tests.support.erasure import make_folder, make_texts, read_tokens, run_erase

SHAPE = ["--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "16", "--T", "16", "--tokenizer", "bytes"]
TEXTS, OTHER = make_texts(20), make_texts(20, seed=9)
EPOCHS = ["--schedule", "cosine", "--steps", "80", "--keep-every", "20"]  # two epochs and more


def run_train(*words):
    assert train.main([str(word) for word in words]) == 0


@pytest.fixture
def folder(tmp_path):
    return make_folder(tmp_path / "data", train=TEXTS, val=make_texts(5, seed=1))


def resume(out, capsys):
    """Run the command that was printed for a run."""
    lines = [line for line in capsys.readouterr().out.splitlines() if line.startswith("resume ")]
    (words,) = [shlex.split(line) for line in lines if str(out) in line]
    run_train(*words[words.index("train") + 1 :])


ORDERS = {  # and a document that none of the first 20 steps reads
    "sequential": (15, ["--data", "{data}", "--B", "2"]),
    "shuffled": (0, ["--data", "{data}", "--order", "shuffled", "--B", "2"]),
    "mixed": (15, ["--mix", "{other}=2,{data}=3", "--order", "shuffled", "--B", "2"]),
    "reserved": (15, ["--data", "{data}", "--val", "0.1", "--B", "2"]),
    "several tokens": (15, ["--data", "{data}", "--B", "2", "--n-layer", "3", "--predict-tokens", "2"]),
}


@pytest.mark.parametrize("order", [*[*ORDERS][:-1], pytest.param("several tokens", marks=pytest.mark.slow)])
def test_the_resumed_run_is_the_run_from_scratch(order, folder, tmp_path, capsys):
    make_folder(tmp_path / "other", train=OTHER)
    number, words = ORDERS[order]
    flags = [word.format(data=folder, other=tmp_path / "other") for word in words]
    flags = [*SHAPE, *EPOCHS, *flags]
    run_train(*flags, "--out", tmp_path / "run")
    capsys.readouterr()
    words = ["--doc", f"train:{number}", "--runs", tmp_path]
    assert run_erase(folder, *words) == 0
    listed = capsys.readouterr().out
    assert run_erase(folder, *words, "--apply", "--delete") == 0
    clean = max((int(path.name) for path in (tmp_path / "run" / "checkpoints").iterdir()), default=0)
    assert f"; resumes from checkpoint {clean}, {80 - clean} steps of 80 to train again" in listed and clean == 20
    resume(tmp_path / "run", capsys)
    assert f"resumes from step {clean}" in capsys.readouterr().out
    run_train(*flags, "--out", tmp_path / "scratch")
    assert verify.find_difference(tmp_path / "run", tmp_path / "scratch", 80) == ""


def test_a_batch_size_that_changed_is_taken_into_account(folder, tmp_path, capsys):
    flags = [*SHAPE, "--data", folder, "--keep-every", "5"]

    def run(out):
        run_train(*flags, "--B", "1", "--steps", "15", "--out", out)
        run_train(*flags, "--B", "3", "--steps", "30", "--out", out)

    run(tmp_path / "run")
    capsys.readouterr()
    assert run_erase(folder, "--doc", "train:13", "--runs", tmp_path, "--apply", "--delete") == 0
    # Document 13 is some 760 tokens behind the beginning: 15 steps of 16 tokens, and 11 of 48.
    assert "; resumes from checkpoint 25, 5 steps of 30 to train again" in (listed := capsys.readouterr().out), listed
    run_train(*flags, "--B", "3", "--steps", "30", "--out", tmp_path / "run")
    run(tmp_path / "scratch")
    assert verify.find_difference(tmp_path / "run", tmp_path / "scratch", 30) == ""


@pytest.mark.slow
def test_an_encoder_resumes_to_the_run_from_scratch(folder, tmp_path, capsys):
    flags = ["--arch", "bert", *SHAPE, "--data", folder, "--steps", "60", "--keep-every", "10"]
    run_train(*flags, "--out", tmp_path / "run")
    assert run_erase(folder, "--doc", "train:12", "--runs", tmp_path, "--apply", "--delete") == 0
    assert "; resumes from checkpoint" in capsys.readouterr().out
    run_train(*flags, "--out", tmp_path / "run")
    run_train(*flags, "--out", tmp_path / "scratch")
    assert verify.find_difference(tmp_path / "run", tmp_path / "scratch", 60) == ""


def test_ten_random_erasures_in_one_run(folder, tmp_path, capsys):
    """At random moments of a run, and each time another document; nothing of them is left in the folder."""
    draw, out = random.Random(5), tmp_path / "run"
    flags = [*SHAPE, "--data", folder, "--order", "shuffled", "--B", "2", "--keep-every", "10"]
    numbers = draw.sample(range(20), 10)
    for number in numbers:
        if number == numbers[0] or draw.random() < 0.5:  # else two in a row
            run_train(*flags, "--steps", draw.choice([10, 20, 30]), "--out", out)
        assert run_erase(folder, "--doc", f"train:{number}", "--runs", tmp_path, "--apply", "--delete") == 0
    assert capsys.readouterr().out.count("\nerased ") == 10
    run_train(*flags, "--steps", 40, "--out", out)
    run_train(*flags, "--steps", 40, "--out", tmp_path / "scratch")
    assert verify.find_difference(out, tmp_path / "scratch", 40) == ""
    content = "".join(map(chr, read_tokens(folder, "train").tolist()))
    assert [text in content for text in TEXTS] == [number not in numbers for number in range(20)]


def test_a_document_in_nobodys_run_says_so(folder, tmp_path, capsys):
    run_train(*SHAPE, "--data", folder, "--B", "1", "--steps", "5", "--out", tmp_path / "run")
    before = sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file())
    assert run_erase(folder, "--pattern", TEXTS[19][:12], "--runs", tmp_path) == 0
    out = capsys.readouterr().out
    assert f"runs      none under {tmp_path} has read it; 1 run looked at\n" in out
    assert TEXTS[19][:12] not in out
    assert sorted((path, path.read_bytes()) for path in tmp_path.rglob("*") if path.is_file()) == before
    assert run_erase(folder, "--pattern", TEXTS[19][:12], "--runs", tmp_path, "--apply", "--delete") == 0
    capsys.readouterr()
    run_train(*SHAPE, "--data", folder, "--B", "1", "--steps", "9", "--out", tmp_path / "run")
    out = capsys.readouterr().out
    assert "resumes from step 5" in out and "erased since, which no step before this one has read" in out


def test_a_checkpoint_that_has_read_it_is_refused_until_it_is_deleted(folder, tmp_path, capsys):
    flags = [*SHAPE, "--data", folder, "--B", "2", "--steps", "20", "--out", tmp_path / "run"]
    run_train(*flags)
    assert export.main([str(tmp_path / "run"), str(tmp_path / "hf")]) == 0
    assert run_erase(folder, "--doc", "train:5", "--runs", tmp_path, "--apply") == 0
    with pytest.raises(CheckpointError, match=r"checkpoints/20 has read, in step \d+, what was erased from .*data"):
        run_train(*flags)
    capsys.readouterr()
    assert run_erase(folder, "--runs", tmp_path, "--delete") == 0  # with no document: those of earlier erasures
    out = capsys.readouterr().out
    assert "starts over, 20 steps of 20 to train again" in out and f"export    {tmp_path}/hf: has read it" in out
    assert not (tmp_path / "hf" / "model.safetensors").exists()
    run_train(*flags)
    assert run_erase(folder, "--runs", tmp_path) == 0
    assert "run: reads the folder, and has not read it" in capsys.readouterr().out


@pytest.mark.slow
def test_an_update_that_has_read_it_is_found_and_made_again(folder, tmp_path, monkeypatch, capsys):
    """It names a part of the folder, as does its parent's --val 0.2; and what it has promoted is no longer in use."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "new.txt").write_text("".join(make_texts(20, seed=4)))
    run_train(*SHAPE, "--data", "data", "--val", "0.2", "--B", "2", "--steps", "40", "--out", "runs/old")
    words = ["runs/old", "--data", "new.txt", "--steps", "20", "--replay", "0.5", "--max-forgetting", "9"]
    assert update.main([*words, "--out", "runs/new"]) == 0 and os.readlink("runs/promoted") == "new"
    capsys.readouterr()
    assert run_erase("data", "--doc", "train:1") == 0
    listed = capsys.readouterr().out
    assert "runs/old: has read it from step" in listed and "runs/new: has read it from step" in listed
    assert "link      runs/promoted: leads to a run that has read it" in listed
    assert os.path.islink("runs/promoted") and os.path.exists("runs/new/lineage.json")
    assert run_erase("data", "--doc", "train:1", "--apply", "--delete") == 0
    assert "runs/new: `python -m jaxgpt update` made it" in capsys.readouterr().err
    assert not os.path.islink("runs/promoted") and os.listdir("runs/new/checkpoints") == []
    run_train(*SHAPE, "--data", "data", "--val", "0.2", "--B", "2", "--steps", "40", "--out", "runs/old")
    assert update.main([*words, "--out", "runs/new"]) == 0 and os.readlink("runs/promoted") == "new"
    capsys.readouterr()
    assert run_erase("data") == 0 and "has not read it" in capsys.readouterr().out
    assert os.path.islink("runs/promoted")


def test_what_can_not_be_done_is_one_line_and_changes_nothing(folder, tmp_path, monkeypatch):
    run_train(*SHAPE, "--data", folder, "--B", "1", "--steps", "1", "--out", tmp_path / "run")
    (tmp_path / "a.txt").write_text("a text")
    (tmp_path / "latin.txt").write_bytes(b"\xe9")
    monkeypatch.chdir(tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    for words, error, message in [
        (["nope"], DataError, "nope: no such folder; name one that python -m jaxgpt prepare made"),
        (["run"], DataError, "run: a run, not a prepared folder"),
        (["a.txt"], UsageError, r"a.txt: a file, .*--fresh \(no run that was found reads it\); documents can be"),
        (["data"], UsageError, "data: say what to erase, with --doc, --pattern or --file; nothing was erased before"),
        (["data", "--doc", "train:77"], UsageError, "--doc train:77: no such document; there are train:0 to train:19"),
        (["data", "--doc", "train:7", "--runs", "rnus"], UsageError, "--runs rnus: No such file or directory; name a"),
        (["data", "--doc", "train:7", "--runs", "a.txt"], UsageError, "--runs a.txt: Not a directory; name a folder"),
        (["data", "--file", "b.txt"], DataError, "--file b.txt: No such file or directory"),
        (["data", "--file", "latin.txt"], DataError, "--file latin.txt: not UTF-8"),
    ]:
        with pytest.raises(error, match=message):
            run_erase(*words)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    with pytest.raises(UsageError, match="--delete without --apply: the runs would read these documents again"):
        run_erase("data", "--doc", "train:7", "--delete")
    with hold(tmp_path / "run"), pytest.raises(RetryableError, match="run: in use by another command"):
        run_erase("data", "--doc", "train:0", "--apply")
    after = {path: content for path, content in before.items() if path.name != ".lock"}
    assert {path: path.read_bytes() for path in after} == after


def test_pages_and_leftovers_that_may_quote_a_document_go(folder, tmp_path):
    for name in ("report.html", ".train_000000.bin.host-1.tmp", "work/workers", "work/documents/0.zst"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(TEXTS[2])
    assert run_erase(folder, "--pattern", "^2 ", "--runs", tmp_path, "--apply") == 0
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert not any(TEXTS[2].encode() in path.read_bytes() for path in files) and not (folder / "work").exists()


KILLED = """
import os, pathlib, shutil, sys
from jaxgpt.commands import erase
from jaxgpt.runs.lineage import write_lineage
from tests.commands.erase.test_readers import make_run
from tests.support.erasure import make_folder, make_texts

root = pathlib.Path(sys.argv[1])
words = ["data", "--pattern", "^7 ", "--apply", "--delete"]
os.environ["JAXGPT_CACHE"] = str(root / "cache")

def prepare():
    shutil.rmtree(root / "now", ignore_errors=True)
    (root / "now").mkdir()
    os.chdir(root / "now")
    make_folder(root / "now" / "data", train=make_texts(20), per_shard=300)
    pathlib.Path("data/report.html").touch()
    make_run(root / "now" / "run", saved=(5, 20), data="data")
    pathlib.Path("promoted").symlink_to("run")
    nothing = {"parents": [], "data": [], "gates": [], "promoted": "then"}
    write_lineage(pathlib.Path("run"), {"run": "a", "step": 40, "created": "then"} | nothing)

def state():
    files = [path for path in pathlib.Path(".").rglob("*") if path.is_file() and path.name != ".lock"]
    lines = {path: [line for line in path.read_bytes().splitlines() if b'"time"' not in line] for path in files}
    return lines, sorted(pathlib.Path(".").rglob("*"))

prepare()
assert erase.main(words) == 0
expected = state()
assert not {"promoted", "run/lineage.json"} & {str(path) for path in expected[1]}
kills = 0
while True:
    prepare()
    left = [kills + 1]
    child = os.fork()
    if child == 0:
        def die_before(function):
            def call(*args, **options):
                left[0] -= 1
                if left[0] == 0:
                    os.kill(os.getpid(), 9)
                return function(*args, **options)
            return call
        for name in ("replace", "rename", "unlink", "rmdir", "fsync"):
            setattr(os, name, die_before(getattr(os, name)))
        os._exit(erase.main(words))
    _, status = os.waitpid(child, 0)
    if os.WIFEXITED(status):
        assert os.WEXITSTATUS(status) == 0
        break
    kills += 1
    assert erase.main(words) == 0
    assert state() == expected, kills
print("kills", kills)
"""


def test_after_a_kill_at_any_moment_the_same_command_does_the_rest(tmp_path):
    root = erase.__file__.split("/jaxgpt/")[0]
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    environment = os.environ | {"PYTHONPATH": root}
    result = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[-1]) > 10
