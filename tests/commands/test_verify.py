import json
import os
import re
import shutil

import pytest

from jaxgpt import console
from jaxgpt.commands import train, verify
from jaxgpt.environments.tic_tac_toe import TicTacToe
from jaxgpt.errors import CheckpointError
from jaxgpt.training.config import TrainConfig, fixed_flags
from jaxgpt.training.resume import load_run_config

TINY = ["--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "32", "--B", "2", "--T", "16"]


def run(main, *words):
    return console.run(main, [str(word) for word in words])


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verify")
    (folder / "text.txt").write_text(" ".join(f"word{n % 7}" for n in range(82)))
    words = [*TINY, "--data", folder / "text.txt", "--out", folder / "run", "--recipe", "gpt3", "--steps", 6]
    assert run(train.main, *words, "--save-every", 3) == 0
    return folder / "run"


def test_whole_checkpoints_are_called_whole(trained, capsys):
    assert run(verify.main, trained) == 0
    assert re.fullmatch(
        rf"ok        {trained}/checkpoints/6: \d+ arrays, position 32\n"
        rf"ok        {trained}/checkpoints/3: \d+ arrays, position 96\n",
        capsys.readouterr().out,
    )


def test_a_damaged_one_is_named_and_the_code_is_4(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "run")
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "6" / "state")
    assert run(verify.main, tmp_path / "run") == 4
    out, error = capsys.readouterr()
    assert [line.split()[0] for line in out.splitlines()] == ["corrupt", "ok"]
    assert error == f"error: {tmp_path}/run: 1 corrupt; the run resumes from the newest good one, if any\n"
    assert sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir()) == ["3", "6"]  # nothing is moved


@pytest.mark.slow
def test_resume_is_proved_with_the_runs_own_flags(trained, capsys):
    assert run(verify.main, trained, "--resume", 2) == 0
    assert "resume    2 + 2 steps in two processes = 4 steps in one: every row and array" in capsys.readouterr().out


def test_resume_is_proved_without_what_its_numbers_do_not_need(trained, tmp_path, monkeypatch):
    flags, _ = load_run_config(trained)
    trainings = []
    monkeypatch.setattr(verify, "run_training", lambda flags, rows: trainings.append(flags))
    watched = {"sample_prompt": "a", "track": "wandb", "probe": "induction", "probe_every": 7, "profile": 3}
    with pytest.raises(FileNotFoundError):  # nothing was trained
        verify.prove_resume(flags.replace(**watched, hash_every=1), 1, tmp_path)
    lengths = {"out": tmp_path / "whole", "steps": 2, "save_every": 1}
    assert trainings == [flags.replace(**lengths, hash_every=1)]
    assert not watched.keys() & fixed_flags(flags).keys()


def test_a_text_that_has_changed_proves_nothing(trained, tmp_path, monkeypatch, capsys):
    """Nor one that is gone; both are told before the run is trained again."""
    shutil.copytree(trained, tmp_path / "run")
    config = tmp_path / "run" / "config.json"
    recorded = json.loads(config.read_text())
    assert recorded["cwd"] == os.getcwd()
    monkeypatch.setattr(verify, "run_training", lambda flags: pytest.fail("it trains"))
    for name, code, message in (
        ("changed.txt", 4, "changed.txt has changed: its hash was "),
        ("gone.txt", 3, "no such"),
    ):
        config.write_text(json.dumps(recorded | {"data": name, "cwd": str(tmp_path)}))
        (tmp_path / "changed.txt").write_text("another text " * 60)
        assert run(verify.main, tmp_path / "run", "--resume", 2) == code
        error = capsys.readouterr().err
        assert error.startswith("error: ") and error.count("\n") == 1 and message in error and "bring " in error


def test_an_environment_is_the_data_of_a_run():
    flags = TrainConfig.of(objective="rloo", env="tic-tac-toe", tokenizer="bytes", B=8)
    verify.require_same_data(flags, TicTacToe().fingerprint)
    with pytest.raises(CheckpointError, match="and tic-tac-toe against minimax has changed"):
        verify.require_same_data(flags.replace(env="tic-tac-toe:opponent=minimax"), TicTacToe().fingerprint)


def test_runs_that_differ_are_told_apart(trained, tmp_path):
    assert verify.find_difference(trained, trained, 6) == ""
    shutil.copytree(trained, tmp_path / "run")
    log, metadata = tmp_path / "run" / "log.jsonl", tmp_path / "run" / "checkpoints" / "6" / "progress" / "metadata"
    content = metadata.read_text()
    metadata.write_text(re.sub(r'(mu\.ln_f[^"]*": *")\w{8}', r"\g<1>00000000", content))
    assert "ln_f" in verify.find_difference(trained, tmp_path / "run", 6)
    metadata.write_text(content)
    lines = log.read_text().splitlines(keepends=True)
    log.write_text("".join([*lines[:4], lines[4].replace('"loss": ', '"loss": 1'), *lines[5:]]))
    assert "the rows of step 4 differ" in verify.find_difference(trained, tmp_path / "run", 6)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ([], 2, "not given: RUN"),
        (["nowhere"], 4, "nowhere: no run that has begun; give a run folder"),
        (["nowhere", "--resume", "-1"], 2, "--resume -1 is out of range"),
    ],
)
def test_wrong_input_is_one_line(words, code, message, capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert run(verify.main, *words) == code
    assert re.match(f"error: .*{message}", capsys.readouterr().err)
    assert list(tmp_path.iterdir()) == []
