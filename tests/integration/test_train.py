"""The whole program on tiny models: what it writes and prints, exact resume, and every wrong input."""

import dataclasses
import json
import os
import re
import resource
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import (
    COMMANDS,
    agreement,
    chat,
    doctor,
    erase,
    evaluate,
    export,
    fit,
    inspect,
    look,
    play,
    predict,
    prepare,
    replay,
    report,
    sample,
    sweep,
    tokenizer,
    track,
    train,
    verify,
)
from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.commands.glue.config import GlueConfig
from jaxgpt.commands.review.config import ReviewConfig
from jaxgpt.commands.serve.config import ServeConfig
from jaxgpt.commands.update.config import UpdateConfig
from jaxgpt.data import corpus, shards
from jaxgpt.data.loader import next_batch
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.objectives import OBJECTIVES, next_token
from jaxgpt.runs.checkpoint import Checkpoints
from jaxgpt.runs.huggingface import load, save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime import device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.resume import load_run_config
from tests.support.kill import numbers, saved_bits, survive
from tests.support.losses import mean_loss

SCRIPT = Path(__file__).parents[2] / "train.py"
SHAPE = ["--n-layer", "2", "--n-head", "2", "--n-embd", "16", "--block-size", "32"]
TINY = [*SHAPE, "--B", "2", "--T", "16"]


TEXT = " ".join(f"word{n % 7}" for n in range(82)) + "\n"  # 165 tokens: 5 batches of 2*16 to an epoch, and a remainder


@pytest.fixture
def text(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder with text.txt and out, a run of one step."""
    folder = tmp_path_factory.mktemp("finished")
    (folder / "text.txt").write_text(TEXT)
    assert run(*TINY, "--data", folder / "text.txt", "--out", folder / "out", "--steps", 1) == 0
    return folder


@pytest.fixture(scope="module")
def six_steps(finished):
    """The flags of a run with checkpoints after 2, 4 and 6 steps, and its folder, which no test changes."""
    words = [*TINY, "--data", finished / "text.txt", "--recipe", "gpt3", "--save-every", 2]
    assert run(*words, "--steps", 6, "--out", finished / "six") == 0
    return words, finished / "six"


@pytest.fixture(scope="module")
def nine_steps(finished):
    """The folder of a run of TINY with checkpoints after 6, 8 and 9 steps, which no test changes."""
    words = [*TINY, "--data", finished / "text.txt", "--save-every", 2]
    assert run(*words, "--steps", 9, "--out", finished / "nine") == 0
    return finished / "nine"


def run(*words):
    """train.py in this process: its exit code."""
    return console.run(train.main, [str(word) for word in words])


def run_verify(*words):
    return console.run(verify.main, [str(word) for word in words])


def run_in_a_new_process(*words):
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def tree_bytes(folder):
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name != ".lock"}


# ---- A run


def test_what_a_run_prints_and_leaves(text, tmp_path, capsys):
    out = tmp_path / "out"
    assert run(*TINY, "--data", text, "--out", out, "--steps", 7, "--save-every", 3) == 0
    printed = capsys.readouterr().out
    assert f"corpus    {text}: 165 tokens, 5 batches per epoch of 2*16\n" in printed
    assert "device    CPU, " in printed
    assert "model     811,216 parameters: 2 layers, 2 heads, width 16, float32\n" in printed
    assert len([line for line in printed.splitlines() if line.count("|") == 5]) == 1 + 7
    assert f"python -m jaxgpt train --B 2 --T 16 --data {text} --steps 14" in printed
    assert "\x1b" not in printed  # plain where it is no terminal
    assert [row["position"] for row in rows(out)] == [0, 32, 64, 96, 128, 0, 32]
    assert [row["tokens_seen"] for row in rows(out)] == [32 * k for k in range(1, 8)]
    assert abs(rows(out)[0]["loss"] / np.log(50257) - 1) < 0.02
    assert rows(out)[-1]["loss"] < rows(out)[0]["loss"]
    assert sorted(path.name for path in (out / "checkpoints").iterdir()) == ["3", "6", "7"]
    config = json.loads((out / "config.json").read_text())
    assert (config["steps"], config["lr"], config["n_embd"], config["seed"]) == (7, 3e-4, 16, 0)
    assert config["versions"]["jax"] == jax.__version__ and config["device_name"].startswith("CPU")
    state = 3 * 4 * 811_216  # the parameters and both moments, in float32
    assert state < config["starts"][0]["step_bytes"] < 3 * state
    with Checkpoints(out / "checkpoints") as checkpoints:
        assert checkpoints.progress(7).position == 64


def test_a_finished_run_says_so_and_changes_nothing(text, tmp_path, capsys):
    words = [*TINY, "--data", text, "--out", tmp_path / "out", "--steps", 2]
    assert run(*words) == 0
    before = tree_bytes(tmp_path / "out")
    capsys.readouterr()
    assert run(*words) == 0
    assert "already has 2 steps, of 2 that were asked for" in capsys.readouterr().out
    assert tree_bytes(tmp_path / "out") == before


def test_fresh_starts_over(text, tmp_path):
    words = [*TINY, "--data", text, "--out", tmp_path / "out"]
    assert run(*words, "--steps", 3) == 0
    assert run(*words, "--steps", 2, "--fresh", "--lr", "1e-3") == 0
    assert [row["step"] for row in rows(tmp_path / "out")] == [0, 1]
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["2"]


def test_the_first_run_needs_no_network_no_home_and_no_cache(tmp_path, capsys, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.delenv("HOME", raising=False)
    monkeypatch.setenv("JAXGPT_CACHE", str(tmp_path / "file" / "cache"))  # can't be made
    assert run(*TINY, "--out", tmp_path / "out", "--steps", 1) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "corpus    tiny Shakespeare: 338,025 tokens, 10,563 batches per epoch of 2*16"
    assert not [line for line in lines if line.startswith("note")]


def test_only_put_moves_data_to_the_device(text, tmp_path, monkeypatch):
    monkeypatch.setattr(device, "put", lambda batch, to: batch)
    with pytest.raises(Exception, match="Disallowed host-to-device transfer"):
        train.main([*TINY, "--data", str(text), "--out", str(tmp_path / "out"), "--steps", "2"])


def test_a_loss_that_is_not_finite_ends_the_run_and_is_not_saved(text, tmp_path, capsys):
    words = [*TINY, "--data", text, "--out", tmp_path / "out", "--lr", "1e30", "--steps", 4, "--save-every", 1]
    assert run(*words) == 5
    assert capsys.readouterr().err.startswith("error: step ")
    assert [path.name for path in (tmp_path / "out" / "checkpoints").iterdir()] == ["1"]  # behind the last finite loss


def test_a_bad_batch_is_skipped_where_that_was_asked_for(text, tmp_path, monkeypatch, capsys):
    """The loss of the third batch of the text is NaN: it changes nothing, and what follows is without it."""
    third = int(next_batch(corpus.load(str(text)).tokens, 64, 2, 16)[0].sum())

    def spoilt(model, batch, keys):
        total, count = next_token.loss(model, batch)["loss"]
        return {"loss": (jax.numpy.where(batch["tokens"].sum() == third, jax.numpy.nan, total), count)}

    monkeypatch.setitem(OBJECTIVES, "next_token", dataclasses.replace(next_token.OBJECTIVE, loss=spoilt))
    words = [*TINY, "--data", text, "--steps", 5, "--hash-every", 1, "--save-every", 2, "--warmup-ratio", 1, "--lr", 5]
    assert run(*words, "--out", tmp_path / "stopped") == 5
    assert "error: step 2: loss nan" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "stopped" / "checkpoints").iterdir()] == ["2"]
    assert run(*words, "--out", tmp_path / "stopped", "--skip-bad-steps", 1) == 0  # and a stopped run may go on
    assert run(*words, "--out", tmp_path / "whole", "--skip-bad-steps", 1) == 0
    assert numbers(tmp_path / "stopped") == numbers(tmp_path / "whole")
    assert [row["loss"] is None for row in rows(tmp_path / "whole")] == [False, False, True, False, False]
    assert len({row["state"] for row in rows(tmp_path / "whole")}) == 5  # a skipped step is counted
    assert [row["lr"] for row in rows(tmp_path / "whole")] == [1, 2, 3, 3, 4]  # and is no update
    assert saved_bits(tmp_path / "stopped", 5) == saved_bits(tmp_path / "whole", 5)


@pytest.mark.slow
def test_the_fingerprints_of_two_runs_tell_where_they_part(text, tmp_path):
    words = [*TINY, "--data", text, "--steps", 4, "--hash-every", 2]
    for name, lr in (("a", 3e-4), ("b", 3e-4), ("c", 1e-3)):
        assert run(*words, "--lr", lr, "--out", tmp_path / name) == 0
    a, b, c = ([row.get("state") for row in rows(tmp_path / name)] for name in "abc")
    assert a == b and [x is None for x in a] == [True, False, True, False]
    assert not {a[1], a[3]} & {c[1], c[3]}


# ---- Resume


def test_k_steps_and_k_more_in_a_new_process_are_2k_steps_to_the_bit(text, tmp_path):
    """7 + 7 steps cross the corpus's wrap after 5 in both halves."""
    k = 7
    words = [*TINY, "--data", text, "--recipe", "gpt3", "--schedule", "constant", "--warmup-ratio", 0]
    assert run(*words, "--out", tmp_path / "whole", "--steps", 2 * k) == 0
    assert run(*words, "--out", tmp_path / "parts", "--steps", k) == 0
    done = run_in_a_new_process(*words, "--out", tmp_path / "parts", "--steps", 2 * k)
    assert (done.returncode, done.stderr) == (0, "")
    assert f"resumes from step {k}, position {32 * (k % 5)}, to {2 * k} steps" in done.stdout
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    whole, parts = saved_bits(tmp_path / "whole", 2 * k), saved_bits(tmp_path / "parts", 2 * k)
    assert len(whole) > 40 and whole == parts


ORDERS = {
    "shuffled": ["--data", "{text}", "--order", "shuffled", "--seed", 5],
    "muon": ["--data", "{text}", "--order", "shuffled", "--optimizer", "muon", "--schedule", "wsd", "--lr", 1e-2],
    "mixed": ["--mix", "{folder}=2,{other}=1", "--order", "shuffled", "--val", "{folder}"],
}


@pytest.fixture
def texts(text, tmp_path):
    """The names of text, another one, and a prepared folder of it."""
    (tmp_path / "other.txt").write_text(TEXT.replace("word", "other") * 2)
    folder, ids = tmp_path / "folder", corpus.load(str(text)).tokens
    folder.mkdir()
    written = {name: {"shards": shards.write(folder, name, [ids], 50)} for name in ("train", "val")}
    shards.write_meta(folder, written)
    return {"text": text, "other": tmp_path / "other.txt", "folder": folder}


@pytest.mark.parametrize(
    "order", ["shuffled", *(pytest.param(name, marks=pytest.mark.slow) for name in ("muon", "mixed"))]
)
def test_a_run_in_another_order_goes_on_to_the_bit_with_any_batch(order, texts, tmp_path, capsys):
    """Through three epochs; B and --accumulate change at a resume as they like, what decides the order can not."""
    words = [*TINY[:-4], "--T", 16, *(str(word).format(**texts) for word in ORDERS[order])]
    whole, parts, other = (tmp_path / name for name in ("whole", "parts", "others"))
    assert run(*words, "--B", 4, "--out", whole, "--steps", 9) == 0
    assert "batches per epoch of 4*16" in capsys.readouterr().out
    assert run(*words, "--B", 4, "--out", parts, "--steps", 5) == 0
    shutil.copytree(parts, other)
    assert run(*words, "--B", 4, "--out", parts, "--steps", 9) == 0
    assert f"resumes from step 5, position {5 * 64}, to 9 steps" in capsys.readouterr().out
    assert [row["loss"] for row in rows(parts)] == [row["loss"] for row in rows(whole)]
    assert saved_bits(parts, 9) == saved_bits(whole, 9)
    assert [row["position"] for row in rows(whole)] == [64 * step for step in range(9)]

    assert run(*words, "--B", 2, "--accumulate", 2, "--out", other, "--steps", 6) == 0
    assert rows(other)[5]["loss"] == pytest.approx(rows(whole)[5]["loss"], rel=1e-6)

    capsys.readouterr()
    refused = [(["--T", 8], "order T=16 shuffled there and T=8 shuffled here"), (["--seed", 6], "seed ")]
    refused += [(["--order", "sequential"], "order T=16 shuffled there and ")]
    if order == "mixed":
        refused += [(["--mix", f"{texts['folder']}=3,{texts['other']}=1"], "corpus ")]
    for more, says in refused:
        assert run(*words, "--B", 4, "--out", whole, "--steps", 11, *more) == 4
        error = capsys.readouterr().err
        assert says in error and error.count("\n") == 1

    assert console.run(replay.main, [str(other), "--step", "5"]) == 0
    out = capsys.readouterr().out
    assert out.endswith(", as in the log\n") and (f", from {texts['other']}, loss" in out) == (order == "mixed")


def at_step(patch, step, action):
    """Do something just before the transfer of that step."""
    real, calls = device.put, []

    def put(batch, to):
        if len(calls) == step:
            action()
        calls.append(step)
        return real(batch, to=to)

    patch.setattr(device, "put", put)


def test_a_run_that_died_goes_on_from_its_checkpoint(six_steps, tmp_path, monkeypatch):
    """Dies between checkpoints, having logged steps that are then done again."""
    words, whole = six_steps
    words = [*words, "--steps", 6, "--out", tmp_path / "parts"]
    with monkeypatch.context() as patch, pytest.raises(ZeroDivisionError):
        at_step(patch, 5, lambda: 1 / 0)
        run(*words)
    assert [row["step"] for row in rows(tmp_path / "parts")] == [0, 1, 2, 3, 4]
    assert run(*words) == 0
    assert numbers(tmp_path / "parts") == numbers(whole)
    assert saved_bits(tmp_path / "parts", 6) == saved_bits(whole, 6)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_if_it_had_not_been(tmp_path):
    """SIGKILL at random moments of real processes; `python -m tests.support.kill --trials 200` is the long form."""
    assert survive(tmp_path, trials=2)["further"] >= 1


@pytest.mark.parametrize("number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_signal_ends_the_step_saves_and_says_how_to_go_on(nine_steps, text, tmp_path, monkeypatch, capsys, number):
    words = [*TINY, "--data", text, "--steps", 6]
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda: os.kill(os.getpid(), number))
        assert run(*words, "--out", tmp_path / "parts", "--fresh") == 128 + number
    stopped, go_on = capsys.readouterr().out.splitlines()[-2:]
    assert stopped == f"stopped   after 3 of 6 steps, saved in {tmp_path / 'parts'}/checkpoints/3"
    next_words = shlex.split(go_on.removeprefix("resume    python -m jaxgpt train "))
    assert "--fresh" not in next_words
    assert run(*next_words) == 0
    assert numbers(tmp_path / "parts") == numbers(nine_steps)[:6]
    assert saved_bits(tmp_path / "parts", 6) == saved_bits(nine_steps, 6)


@pytest.mark.slow
def test_a_validation_that_a_signal_ends_is_measured_when_the_run_resumes(text, tmp_path, monkeypatch, capsys):
    """Also that after the last step, and one that a signal ends again."""
    words = [*TINY, "--data", text, "--val", 0.4, "--eval-every", 2, "--steps", 4]
    assert run(*words, "--out", tmp_path / "whole") == 0
    (batches,) = {row["val_tokens"] // 32 for row in rows(tmp_path / "whole") if "val_tokens" in row}
    assert batches > 1
    words, stopped = [*words, "--out", tmp_path / "parts"], []
    for puts in (2, 0, batches + 2, 0):  # of the start, before the signal
        with monkeypatch.context() as patch:
            at_step(patch, puts, lambda: os.kill(os.getpid(), signal.SIGTERM))
            assert run(*words) == 128 + signal.SIGTERM
        stopped.append(re.search(r"^stopped   after (.*), saved in", capsys.readouterr().out, re.MULTILINE)[1])
    last = "4 of 4 steps, before the last validation was complete"
    assert stopped == ["2 of 4 steps", "2 of 4 steps", last, last]
    assert run(*words) == 0
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert saved_bits(tmp_path / "parts", 4) == saved_bits(tmp_path / "whole", 4)
    assert "the validation after the last step was missing" in capsys.readouterr().out
    assert run(*words, "--steps", 6) == 0 and run(*words, "--steps", 6, "--out", tmp_path / "whole") == 0
    best = [Checkpoints(tmp_path / name / "checkpoints").progress(6).best for name in ("whole", "parts")]
    assert best[0] == best[1] is not None
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


@pytest.mark.slow
def test_an_interrupt_at_any_moment_is_no_traceback_and_loses_nothing(text, tmp_path):
    """Real processes, each stopped a little later in its step or save than the one before; all save at every step."""
    words = [*TINY, "--data", text, "--steps", 10**6, "--save-every", 1, "--out", tmp_path / "out"]
    command, reached = [sys.executable, str(SCRIPT), *map(str, words)], 0
    for trial in range(3):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            while not re.match(r" +\d+ \|", process.stdout.readline()):
                pass
            time.sleep(0.12 * trial)
            process.send_signal(signal.SIGINT)
            out, error = process.communicate(timeout=60)
        assert process.returncode == 130
        assert error == "\nstopping after the step in progress; once more quits at once\n"
        (saved,) = re.findall(r"^stopped .*/checkpoints/(\d+)$", out, re.MULTILINE)
        assert int(saved) > reached
        reached = int(saved)
    assert [row["step"] for row in rows(tmp_path / "out")] == list(range(reached))


@pytest.mark.slow
def test_batch_shape_and_length_may_change_at_a_resume(text, tmp_path, capsys):
    words = [*SHAPE, "--data", text, "--out", tmp_path / "out", "--recipe", "gpt3"]
    assert run(*words, "--B", 1, "--T", 30, "--steps", 4) == 0
    assert run(*words, "--B", 2, "--T", 32, "--steps", 6) == 0
    printed = capsys.readouterr().out
    assert "--B was 1 and is 2 from here on" in printed and "--T was 30 and is 32" in printed
    assert "--steps was 4, is 6: the learning rate follows the new schedule" in printed
    assert "resumes from step 4, position 0, to 6 steps" in printed
    assert [row["position"] for row in rows(tmp_path / "out")] == [0, 30, 60, 90, 0, 64]  # at 120 no 65 tokens are left
    assert [row["tokens_seen"] for row in rows(tmp_path / "out")] == [30, 60, 90, 120, 184, 248]


# ---- Faults


def test_a_full_disk_is_told_and_the_run_saves_when_there_is_room_again(
    nine_steps, text, tmp_path, monkeypatch, capsys
):
    """From the third step to the sixth no file may grow, the log included."""
    words = [*TINY, "--data", text, "--steps", 9, "--save-every", 2]
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    real, calls = device.put, []

    def put(batch, to):
        if len(calls) in (2, 6):
            resource.setrlimit(resource.RLIMIT_FSIZE, (1, before[1]) if len(calls) == 2 else before)
        calls.append(None)
        return real(batch, to=to)

    with monkeypatch.context() as patch:
        patch.setattr(device, "put", put)
        try:
            assert run(*words, "--out", tmp_path / "parts") == 0
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
    printed = capsys.readouterr().out
    assert " could not be saved (" in printed and "log.jsonl: File too large; its rows are kept and tried " in printed
    assert numbers(tmp_path / "parts") == numbers(nine_steps)
    assert saved_bits(tmp_path / "parts", 9) == saved_bits(nine_steps, 9)
    assert not list((tmp_path / "parts" / "checkpoints").glob("*tmp*"))


READ_ONLY = """
import sys
from pathlib import Path
from jaxgpt.commands import train
from jaxgpt import console
from jaxgpt.runtime import device

out, calls, real = Path(sys.argv[-1]), [], device.put

def put(batch, to):
    calls.append(None)
    if len(calls) in (3, 7):
        for folder in (out, out / "checkpoints"):
            folder.chmod(0o555 if len(calls) == 3 else 0o755)
    return real(batch, to=to)

device.put = put
console.leave(console.run(train.main, sys.argv[1:]))
"""


WITHOUT_RIGHTS_OF_ROOT = """
import ctypes, os, sys
ctypes.CDLL(None).prctl(24, 1, 0, 0, 0)  # PR_CAPBSET_DROP, CAP_DAC_OVERRIDE: from the next program on; root alone may
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


@pytest.mark.slow
def test_a_folder_made_read_only_meanwhile_is_told_and_the_run_saves_when_it_is_not(nine_steps, text, tmp_path):
    words = [*TINY, "--data", text, "--steps", 9, "--save-every", 2]
    command = [sys.executable, "-c", WITHOUT_RIGHTS_OF_ROOT, "-c", READ_ONLY, *words, "--out", tmp_path / "parts"]
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, timeout=120, cwd=SCRIPT.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert re.search(r"note      the checkpoint of step \d could not be saved \(.*Permission denied", done.stdout), done
    assert numbers(tmp_path / "parts") == numbers(nine_steps)
    assert saved_bits(tmp_path / "parts", 9) == saved_bits(nine_steps, 9)


def test_a_folder_that_vanishes_before_the_last_save_is_made_again_whole(text, tmp_path, monkeypatch, capsys):
    """The commands that are printed find what they name: the run, and its model."""
    save = Checkpoints.save

    def move_and_save(self, run):
        (tmp_path / "out").rename(tmp_path / "gone")
        save(self, run)

    monkeypatch.setattr(Checkpoints, "save", move_and_save)
    assert run(*TINY, "--data", text, "--steps", 1, "--out", tmp_path / "out") == 0
    *_, note, _done, saved, _resume, sample = capsys.readouterr().out.splitlines()
    assert note.startswith("note      ") and "the run continues in a new one" in note
    assert saved == f"saved     {tmp_path / 'out'}/checkpoints/1"
    assert resolve_weights(shlex.split(sample)[5]).folder == tmp_path / "out"
    assert load_run_config(tmp_path / "out")[0].run.steps == 1


def test_a_run_whose_whole_folder_vanishes_goes_on_in_a_new_one(text, tmp_path, monkeypatch, capsys):
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: (tmp_path / "out").rename(tmp_path / "gone"))
        assert run(*TINY, "--data", text, "--steps", 6, "--save-every", 2, "--out", tmp_path / "out") == 0
    assert (
        f"note      {tmp_path / 'out'} was moved or deleted, with all in it; the run continues in a new one\n"
        in capsys.readouterr().out
    )
    assert [row["step"] for row in rows(tmp_path / "gone")] + [row["step"] for row in rows(tmp_path / "out")] == [
        *range(6)
    ]
    assert run_verify(tmp_path / "out") == 0  # and every other command takes it for a run
    assert run(*TINY, "--data", text, "--steps", 7, "--out", tmp_path / "out") == 0


def test_checkpoints_that_vanish_meanwhile_are_written_anew(text, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        at_step(patch, 3, lambda: (tmp_path / "out" / "checkpoints").rename(tmp_path / "gone"))
        assert run(*TINY, "--data", text, "--steps", 6, "--save-every", 2, "--out", tmp_path / "out") == 0
    assert (tmp_path / "out" / "checkpoints" / "6").exists()


def test_a_damaged_checkpoint_is_said_and_the_run_ends_as_if_it_were_whole(six_steps, tmp_path, capsys):
    """Of the newest checkpoint one byte is changed, and its time is set back by fifty years."""
    words, whole = six_steps
    shutil.copytree(whole, tmp_path / "parts")
    newest = tmp_path / "parts" / "checkpoints" / "6"
    largest = max(newest.rglob("d/*"), key=lambda path: path.stat().st_size)
    content = bytearray(largest.read_bytes())
    content[len(content) // 2] ^= 1
    largest.write_bytes(content)
    os.utime(newest, (0, 0))
    capsys.readouterr()
    assert run(*words, "--steps", 6, "--out", tmp_path / "parts") == 0
    printed = capsys.readouterr().out
    assert f"note      {newest} is corrupt and can't be used (" in printed and "; skipped\n" in printed
    assert "resumes from step 4" in printed
    assert numbers(tmp_path / "parts") == numbers(whole)
    assert saved_bits(tmp_path / "parts", 6) == saved_bits(whole, 6)
    assert (tmp_path / "parts" / "checkpoints" / "6.damaged").exists()


def emptied(folder):
    shutil.rmtree(folder)
    folder.mkdir()


DAMAGES = {  # of the checkpoints of steps 2 and 4, and from which the run goes on
    "all emptied": (emptied, 0),
    "half of one deleted": (lambda folder: shutil.rmtree(folder / "4" / "state"), 2),
    "a cut JSON": (lambda folder: os.truncate(folder / "4" / "progress" / "metadata", 99), 2),
    "a foreign file": (lambda folder: (folder / "5").write_text("mine"), 4),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_run_with_damaged_checkpoints_ends_as_if_they_were_whole(six_steps, tmp_path, capsys, damage):
    words, whole = six_steps
    shutil.copytree(whole, tmp_path / "parts")
    checkpoints, (harm, first) = tmp_path / "parts" / "checkpoints", DAMAGES[damage]
    shutil.rmtree(checkpoints / "6")
    harm(checkpoints)
    capsys.readouterr()
    assert run(*words, "--steps", 6, "--out", tmp_path / "parts") == 0
    printed = capsys.readouterr().out
    assert (f"resumes from step {first}," in printed) == (first > 0)
    assert ("checkpoints/4 is corrupt and can't be used (" in printed) == (first == 2)
    assert numbers(tmp_path / "parts") == numbers(whole)
    assert saved_bits(tmp_path / "parts", 6) == saved_bits(whole, 6)


def test_another_text_is_refused_with_both_hashes_unless_that_is_allowed(text, tmp_path, capsys):
    words = [*TINY, "--data", text, "--out", tmp_path / "out"]
    assert run(*words, "--steps", 2) == 0
    before = corpus.load(str(text)).fingerprint
    text.write_text(TEXT.replace("word3", "word4"))
    after = corpus.load(str(text)).fingerprint
    capsys.readouterr()
    assert run(*words, "--steps", 3) == 4
    error = capsys.readouterr().err
    assert f"corpus {before[:16]} there and {after[:16]} here" in error and "--allow-other-data" in error
    assert run(*words, "--steps", 3, "--allow-other-data") == 0
    assert "the text is a different one from here on" in capsys.readouterr().out
    assert [row["position"] for row in rows(tmp_path / "out")] == [0, 32, 64]


@pytest.mark.parametrize(
    "when", ["saving", *(pytest.param(when, marks=pytest.mark.slow) for when in ("compiling", "stepping"))]
)
def test_sigterm_ends_a_run_within_ten_seconds_at_any_moment(text, tmp_path, when):
    out = tmp_path / "out"
    words = [*TINY, "--data", text, "--steps", 10**6, "--save-every", 1 if when == "saving" else 0, "--out", out]
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        sign = {"compiling": "run       ", "stepping": "    5 |", "saving": "    3 |"}[when]
        while not process.stdout.readline().startswith(sign):
            pass
        if when == "saving":
            while not list((out / "checkpoints").glob("*tmp*")):
                pass
        process.send_signal(signal.SIGTERM)
        start = time.monotonic()
        printed, _ = process.communicate(timeout=60)
    assert process.returncode == 143 and time.monotonic() - start < 10
    (saved,) = re.findall(r"^stopped .*/checkpoints/(\d+)$", printed, re.MULTILINE)
    assert run(*words, "--steps", int(saved) + 1) == 0
    assert [row["step"] for row in rows(out)] == list(range(int(saved) + 1))


# ---- From given weights


@pytest.mark.parametrize("kind", ["run", "hugging face"])
def test_a_run_may_begin_with_the_weights_of_another(finished, text, tmp_path, capsys, kind):
    """Its first loss is that of those weights, its optimizer and its corpus position are new."""
    source = finished / "out"
    if kind == "hugging face":
        save_hf(load(resolve_weights(finished / "out")), tmp_path / "hf")
        source = tmp_path / "hf"
    words = ["--B", "2", "--T", "16", "--data", text, "--init-from", source, "--out", tmp_path / "out"]
    assert run(*words, "--steps", 1) == 0
    printed = capsys.readouterr().out
    assert f"run       {tmp_path}/out: 1 step from the weights of {source}\n" in printed
    assert "811,216 parameters: 2 layers, 2 heads, width 16" in printed  # no --size, no --block-size
    (row,) = rows(tmp_path / "out")
    x, y, _ = next_batch(corpus.load(str(text)).tokens, 0, 2, 16)
    expected = mean_loss(load(resolve_weights(finished / "out")), {"tokens": x, "targets": y})
    assert (row["step"], row["position"]) == (0, 0)
    assert abs(row["loss"] - expected) < 1e-5
    assert row["loss"] < rows(finished / "out")[0]["loss"] - 0.01  # what the first step has learnt is there
    moments = saved_bits(tmp_path / "out", 1)
    assert np.frombuffer(next(bits for name, bits in moments.items() if "count" in name), np.int32) == 1


def test_a_run_from_weights_goes_on_to_the_bit(finished, text, tmp_path):
    words = [
        "--B",
        "2",
        "--T",
        "16",
        "--data",
        text,
        "--init-from",
        finished / "out",
        "--pad-vocab-to-multiple-of",
        128,
    ]
    assert run(*words, "--out", tmp_path / "whole", "--steps", 4) == 0
    for steps in (2, 4):
        assert run(*words, "--out", tmp_path / "parts", "--steps", steps) == 0
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    assert saved_bits(tmp_path / "parts", 4) == saved_bits(tmp_path / "whole", 4)


def test_the_commands_that_a_run_prints_are_understood(finished, text, tmp_path, capsys):
    words = ["--B", "2", "--T", "16", "--data", text, "--init-from", finished / "out", "--out", tmp_path / "out"]
    assert run(*words, "--steps", 1) == 0
    go_on, sample_it = (shlex.split(line.split(maxsplit=1)[1]) for line in capsys.readouterr().out.splitlines()[-2:])
    assert sample_it[:4] == ["python", "-m", "jaxgpt", "sample"]
    assert console.run(sample.main, [*sample_it[4:], "--max-new-tokens", "3"]) == 0
    assert capsys.readouterr().out.startswith("Once upon a time")
    assert run(*go_on[go_on.index("train") + 1 :]) == 0
    assert "resumes from step 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--n-layer", "3"], 2, "--n-layer 3: --init-from {source} has 2; leave --n-layer out"),
        (["--block-size", "64"], 2, "--block-size 64: --init-from {source} has 32"),
        (["--size", "gpt2-medium"], 2, "--size gpt2-medium: --init-from {source} sets the size; leave --size out"),
        (["--T", "33"], 2, "--T 33 is above the model's longest context: use --T 32"),
        (["--init-from", ""], 4, "an empty name: no such folder"),
        (["--out", "{source}", "--fresh"], 2, "--out {source} is --init-from {source}, which must stay"),
        (["--out", "{source}/../out"], 2, "/../out is --init-from {source}, which must stay"),
        (["--init-from", "{source}/nowhere"], 4, "{source}/nowhere: no such folder"),
        (["--init-from", "{other}"], 4, "{other}: 61 token ids, and GPT-2's tokenizer has 50,257; use"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_flags_that_do_not_fit_the_weights_are_one_line(finished, tiny, tmp_path, capsys, words, code, message):
    save_hf(GPT2(tiny, jax.random.key(0)), tmp_path / "other")
    names = {"source": str(finished / "out"), "other": str(tmp_path / "other")}
    base, before = (
        ["--T", "8", "--init-from", finished / "out", "--out", tmp_path / "out"],
        tree_bytes(finished / "out"),
    )
    assert run(*base, *[word.format(**names) for word in words]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1 and message.format(**names) in error
    assert not (tmp_path / "out").exists() and tree_bytes(finished / "out") == before


# ---- Wrong input: one line on stderr, an exit code, nothing lost


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["--B", "0"], 2, "--B 0 is out of range: it must be at least 1"),
        (["--T", "0"], 2, "--T 0 is out of range"),
        (["--T", "33"], 2, "--T 33 is above the model's longest context: use --T 32 or a larger --block-size"),
        (["--lr", "-1"], 2, "--lr -1.0 is out of range"),
        (["--lr", "nan"], 2, "--lr nan is out of range"),
        (["--bs", "4"], 2, "--bs: no such flag; did you mean --B? --help lists the flags"),
        (["--size", "gpt5"], 2, "invalid choice 'gpt5' for argument '--size'"),
        (["--device", "gpu"], 2, "--device gpu: no usable NVIDIA GPU"),
        (["--out", "{file}/out"], 2, "{file}/out: Not a directory; choose a folder that can be written"),
        (["--steps", "1e3"], 2, "--steps 1e3 must be an integer, such as 1000; --help lists the flags"),
        (["--val", "12.5%"], 2, "--val 12.5%: write a fraction: --val 0.125"),
        (["--data", "{missing}"], 3, "{missing}: no such file"),
        (["--data", "{empty}"], 3, "{empty}: the file is empty"),
        (["--data", "{short}"], 3, "{short}: too few tokens for one batch: 3, and B*T + 1 = 2*16 + 1 = 33 are needed"),
        (["--data", "{latin1}"], 3, "{latin1}: not UTF-8: byte 0xe9 at offset 3"),
        (
            ["--data", "{cut}"],
            3,
            "{cut}: truncated or corrupt: its header counts 9 tokens, but 16 bytes follow it, not 18",
        ),
        (["--data", "{beyond}"], 3, "{beyond}: token 1 is 50257, beyond the vocabulary of 50,257"),
        (["--data", "shakespeare"], 4, "another configuration: corpus "),
        (["--seed", "1"], 4, "{out}/checkpoints/1 is a checkpoint of another configuration: seed 0 there and 1 here"),
        (["--n-layer", "3"], 4, "another configuration: n_layer 2 there and 3 here"),
        (["--data", "{other}"], 4, "another configuration: corpus "),
        (["--dtype", "bfloat16"], 4, "another configuration: dtype float32 there and bfloat16 here"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_input_is_one_line(words, code, message, finished, tmp_path, cache, capsys, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    header = np.zeros(256, np.int32)
    header[:3] = 20240520, 1, 9
    files = {
        "file": b"",
        "empty": b"",
        "short": b"one two three",
        "latin1": "caf\u00e9".encode("latin1"),
        "cut.bin": header.tobytes() + bytes(16),
        "beyond.bin": np.array([0, 50257] * 40, np.uint16).tobytes(),
        "other": TEXT.encode() + b"more",
    }
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    names = {name.split(".")[0]: str(tmp_path / name) for name in [*files, "missing", "out"]} | {"cache": str(cache)}
    shutil.copytree(finished / "out", tmp_path / "out")
    before = tree_bytes(tmp_path / "out")
    base = [*TINY, "--data", finished / "text.txt", "--out", names["out"], "--steps", 2]
    assert run(*base, *[word.format(**names) for word in words]) == code
    error = capsys.readouterr().err
    assert error.startswith("error: ") and error.count("\n") == 1
    assert message.format(**names) in error
    assert tree_bytes(tmp_path / "out") == before


def test_a_real_process_fails_with_one_line_too(tmp_path):
    done = run_in_a_new_process("--data", tmp_path / "missing.txt", "--out", tmp_path / "out")
    assert done.returncode == 3 and done.stdout == ""
    assert done.stderr.count("\n") == 1 and "no such file" in done.stderr
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_reader_that_leaves_is_no_traceback(text, tmp_path):
    words = [*TINY, "--data", str(text), "--out", str(tmp_path / "out"), "--steps", "50"]
    process = subprocess.Popen(
        [sys.executable, str(SCRIPT), *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    process.stdout.readline()
    process.stdout.close()  # as `| head -1` does
    assert process.wait(timeout=120) == 141
    assert process.stderr.read() == ""
    process.stderr.close()


def test_the_commands_of_the_readme_are_understood():
    text = (SCRIPT.parent / "README.md").read_text()
    scaling, data = ((SCRIPT.parent / "docs" / f"{page}.md").read_text() for page in ("scaling", "data"))
    commands = re.findall(r"(?:python train\.py|jaxgpt train)( --.*)", text + scaling + data)
    pods = re.search(r"command: \[python, train\.py, (.*?)\]", scaling, re.DOTALL)[1]
    commands.append(" ".join(word.strip().strip('"') for word in pods.split(",")))
    assert len(commands) >= 6
    for words in commands:
        words = [word for word in shlex.split(words.split("`")[0]) if word != "..."]
        if words not in (["--help"], []):
            parse(TrainConfig, words, TrainConfig.from_preset(parse_some(Preset, words)))
    configs = {"train": TrainConfig, "sample": sample.SampleConfig, "evaluate": evaluate.EvaluateConfig}
    configs |= {"predict": predict.PredictConfig, "prepare": prepare.PrepareFlags, "inspect": inspect.InspectConfig}
    configs |= {"export": export.ExportConfig, "verify": verify.VerifyConfig, "replay": replay.ReplayConfig}
    configs |= {"fit": fit.FitConfig, "doctor": doctor.DoctorConfig, "report": report.ReportConfig}
    configs |= {"erase": erase.EraseConfig, "agreement": agreement.AgreementConfig}
    configs |= {
        "tokenizer": tokenizer.TokenizerTrainConfig,
        "track": track.TrackConfig,
        "look": look.LookConfig,
        "sweep": sweep.SweepConfig,
        "glue": GlueConfig,
        "play": play.PlayConfig,
        "chat": chat.ChatConfig,
        "serve": ServeConfig,
        "update": UpdateConfig,
        "review": ReviewConfig,
    }
    pages = [SCRIPT.parent / "README.md", *(SCRIPT.parent / "docs").glob("*.md")]
    blocks = re.findall(r"^```bash\n(.*?)^```", "\n".join(page.read_text() for page in pages), re.MULTILINE | re.DOTALL)
    lines = re.findall(r"^jaxgpt (\w+) (.*)", "\n".join(blocks).replace("\\\n", ""), re.MULTILINE)
    assert {name for name, _ in lines} == configs.keys() == COMMANDS.keys()
    for name, words in lines:
        if words.count('"') % 2 == 0 and "mytasks" not in words:  # a text of two lines; a folder that is not there
            words = shlex.split(words, comments=True)
            preset = name in ("train", "fit") and configs[name].from_preset(parse_some(Preset, words))
            parse(configs[name], words, preset or None)


# ---- Speed, and what it must not change


@pytest.mark.slow
def test_parts_of_a_batch_make_the_steps_of_the_whole(text, tmp_path):
    whole = [*TINY[:-4], "--T", 16, "--data", text, "--steps", 8]
    assert run(*whole, "--B", 2, "--out", tmp_path / "whole") == 0
    assert run(*whole, "--B", 1, "--accumulate", 2, "--out", tmp_path / "parts") == 0
    for one, other in zip(numbers(tmp_path / "whole"), numbers(tmp_path / "parts"), strict=True):
        assert one.pop("loss") == pytest.approx(other.pop("loss"), rel=1e-6)
        assert one.pop("grad_norm") == pytest.approx(other.pop("grad_norm"), rel=1e-4)
        assert one == other  # positions and tokens too


def test_a_run_may_go_on_with_other_parts(text, tmp_path):
    flags = [*TINY[:-4], "--T", 16, "--data", text, "--out", tmp_path / "out"]
    assert run(*flags, "--B", 2, "--steps", 3) == 0
    assert run(*flags, "--B", 1, "--accumulate", 2, "--steps", 6) == 0
    positions = [row["position"] for row in rows(tmp_path / "out")]
    assert positions == [32 * (step % 5) for step in range(6)]


@pytest.mark.slow
def test_a_second_start_compiles_nothing(text, tmp_path):
    environment = {name: value for name, value in os.environ.items() if not name.startswith("JAX_COMPILATION")}
    environment |= {"JAXGPT_CACHE": str(tmp_path / "cache"), "JAX_LOG_COMPILES": "1"}
    command = [sys.executable, str(SCRIPT), *TINY, "--n-layer", "1", "--data", str(text), "--steps", "1"]
    kept = []
    for name in ("one", "two"):
        done = subprocess.run(
            [*command, "--out", str(tmp_path / name)], env=environment, capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        kept.append(sorted(path.name for path in (tmp_path / "cache" / "compiled").glob("*-cache")))
    assert any("train_step" in name for name in kept[0])
    assert kept[0] == kept[1]
    assert "Persistent compilation cache hit for 'jit_train_step'" in done.stderr
    assert numbers(tmp_path / "one") == numbers(tmp_path / "two")


def test_a_step_that_cannot_fit_is_refused_with_what_it_takes_before_the_first(text, tmp_path, monkeypatch, capsys):
    words = [*TINY, "--data", text, "--out", tmp_path / "out", "--steps", 2]
    assert run(*words) == 0
    before = tree_bytes(tmp_path / "out")
    monkeypatch.setattr(device, "free_memory", lambda: 1_000_000)
    capsys.readouterr()
    for more in (["--steps", 3], ["--fresh"]):  # which deletes nothing, then
        assert run(*words, *more, "--B", 1) == 75
        assert re.fullmatch(
            r"error: out of memory: 0\.\d\d GB are needed, and 0\.00 GB are free; use a smaller --B .*\n",
            capsys.readouterr().err,
        )
        assert tree_bytes(tmp_path / "out") == before


@pytest.mark.slow
def test_a_profile_is_of_the_steps_asked_for(text, tmp_path, capsys):
    assert run(*TINY, "--data", text, "--out", tmp_path / "out", "--steps", 8, "--profile", 2) == 0
    printed = capsys.readouterr().out
    folder = re.search(r"^profile +(\S+): open", printed, re.MULTILINE)[1]
    assert list(Path(folder).glob("*.trace.json.gz")) and list(Path(folder).glob("*.xplane.pb"))
    assert "--profile" not in re.search(r"^resume .*", printed, re.MULTILINE)[0]
