import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt import console
from jaxgpt.commands import sweep, train

ROOT = Path(__file__).parents[2]
SPEC = """
[flags]
data = "text.txt"
tokenizer = "bytes"
val = 0.2
B = 2
T = 8
n_layer = 1
n_embd = 8
block_size = 8
steps = {steps}
[grid]
lr = [1e-3, 1e-1]
[rows.gpt2]
n_head = 2
"""
CNN = "[rows.cnn]\narch = 'gated_cnn'\nbottleneck = 4\n"


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("text.txt").write_text(" ".join(f"word{n % 7}" for n in range(400)))
    Path("s.toml").write_text(SPEC.format(steps=2) + CNN)
    return tmp_path


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs in this process, whose programs they share; returns the list of their folders."""
    begun = []

    def train_here(commands, outputs, lock, workers, done):
        for words in commands:
            begun.append(words[-1].rpartition("/")[2])
            console.run(train.main, words[4:])

    monkeypatch.setattr(sweep, "train_here", train_here)
    return begun


def run(*words):
    return console.run(sweep.main, [str(word) for word in words])


def test_each_combination_is_trained_and_told(here, in_this_process, capsys):
    assert run("s.toml", "--out", "s") == 0
    assert sorted(in_this_process) == [f"{row}-lr={lr}" for row in ("cnn", "gpt2") for lr in (0.001, 0.1)]
    results = json.loads(Path("s/results.json").read_text())
    for line in results["runs"]:
        folder = Path("s") / f"{line['row']}-lr={line['lr']}"
        row = json.loads((folder / "log.jsonl").read_text().splitlines()[-1])
        assert (line["loss"], line["bits_per_byte"]) == (row["val_loss"], row["val_bits_per_byte"])
        assert line["tokens"] == 2 * 2 * 8
    # V*C + T*C, a block's 12 C^2 + 13 C, and the last LayerNorm's 2 C
    assert results["runs"][0]["parameters"] == 257 * 8 + 8 * 8 + 12 * 8 * 8 + 13 * 8 + 2 * 8
    losses = {(line["row"], line["lr"]): line["loss"] for line in results["runs"]}
    for best in results["best"]:
        assert best["loss"] == min(loss for (row, _), loss in losses.items() if row == best["row"])
    printed = capsys.readouterr().out
    assert Path("s/table.md").read_text() in printed
    assert "NaN" not in Path("s/results.json").read_text()  # which is no JSON: one seed has no standard error
    # Again: nothing is trained, and a longer file trains what is new.
    assert run("s.toml", "--out", "s") == 0 and len(in_this_process) == 4
    Path("s.toml").write_text(SPEC.format(steps=2).replace("1e-1]", "1e-1, 1e-2]") + CNN)
    assert run("s.toml", "--out", "s") == 0 and len(in_this_process) == 6
    # What is done by other flags, or on another text, is no result of this file.
    before = Path("s/results.json").read_bytes()
    for old, new, error in (
        ("n_embd = 8", "n_embd = 16", "n_embd 8 there and 16 here"),
        ("steps = 2", "steps = 1", "steps 2 there and 1 here"),
        ('tokenizer = "bytes"', "", "another tokenizer"),
        ("", "", "another text"),
    ):
        Path("s.toml").write_text((SPEC.format(steps=2) + CNN).replace(old, new))
        Path("text.txt").write_text(Path("text.txt").read_text() + " more" * (error == "another text"))
        capsys.readouterr()
        assert run("s.toml", "--out", "s") == 3
        assert f"lr=0.001 is a run of another configuration: {error}; use another --out" in capsys.readouterr().err
    assert Path("s/results.json").read_bytes() == before and len(in_this_process) == 6


def test_a_folder_of_mine_is_refused(here, capsys):
    Path("mine").mkdir()
    for name in ("sweep.toml", "results.json", "table.md"):
        Path("mine", name).write_text("mine")
    assert run("s.toml", "--out", "mine") == 2
    assert "mine: there are files in it already; choose a new folder" in capsys.readouterr().err
    Path("s.toml").rename("mine/s.toml")
    assert run("mine/s.toml", "--out", "mine") == 2


def test_a_run_that_fails_ends_no_other(here, in_this_process, capsys):
    Path("s.toml").write_text(SPEC.format(steps=2).replace("1e-3, 1e-1", "1e-3, 1e30"))
    assert run("s.toml", "--out", "s") == 75
    captured = capsys.readouterr()
    assert "gpt2-lr=1e+30 of 2 runs not done; s/logs says why, and the same command resumes" in captured.err
    assert "| gpt2 | 0.001 |" in captured.out and "1e+30 |" not in captured.out


def test_commands_are_shown(here, capsys):
    assert run("s.toml", "--out", "s", "--dry-run") == 0
    (first, *_), there = capsys.readouterr().out.splitlines(), Path("s").exists()
    words = shlex.split(first)
    config, _ = train.read_config(words[words.index("train") + 1 :])
    assert (config.optimizer.lr, config.run.out, there) == (1e-3, Path("s/gpt2-lr=0.001"), False)


@pytest.mark.parametrize(
    "change, words, code, error",
    [
        (("n_embd", "n_emb"), [], 2, r"s.toml, gpt2-lr=0.001: --n-emb: no such flag; did you mean --n-embd"),
        (("1e-1", "-1.0"), [], 2, "s.toml, gpt2-lr=-1.0: --lr -1.0 is out of range"),
        (("val = 0.2", ""), [], 2, "set val in [flags]"),
        (("", ""), ["--workers", 0], 2, "--workers 0 is out of range"),
        (("", ""), ["--forecast", "1e9"], 2, "--forecast 1e9: give PARAMETERS,TOKENS"),
        (("", ""), ["--sbatch", "partition=gpu"], 2, "--sbatch needs --executor slurm"),
        (("", ""), ["--out", "other"], 2, "other: there are files in it already; choose a new folder"),
    ],
)
def test_what_is_wrong_is_told_before_anything_is_trained(here, capsys, change, words, code, error):
    Path("s.toml").write_text(Path("s.toml").read_text().replace(*change))
    Path("other").mkdir()
    Path("other/mine").touch()
    before = sorted(here.rglob("*"))
    assert run("s.toml", *words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert error in line and sorted(here.rglob("*")) == before


@pytest.mark.slow
def test_a_sweep_that_is_killed_goes_on(here):
    """The runs end with it, save, and are resumed."""
    Path("s.toml").write_text(SPEC.format(steps=300))
    words = [sys.executable, "-m", "jaxgpt", "sweep", "s.toml", "--out", "s", "--workers", "2"]
    logs = [Path(f"s/gpt2-lr={lr}/log.jsonl") for lr in (0.001, 0.1)]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(words, env=environment) as process:
        while not all(log.exists() and log.stat().st_size > 1000 for log in logs):
            assert process.poll() is None
            time.sleep(0.05)
        process.send_signal(signal.SIGKILL)
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    for log in logs:
        assert [json.loads(line)["step"] for line in log.read_text().splitlines()] == list(range(300))
        assert "resumes from step" in Path(f"s/logs/{log.parent.name}.txt").read_text()
