"""`jaxgpt track`: what is sent of a log, and when it ends."""

import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt.commands import track
from jaxgpt.locks import Lock, hold
from jaxgpt.reports.follow import LogReader, Row
from tests.support.commands import run_command
from tests.support.kill_tracker import require_equal
from tests.support.logs import line, make_run
from tests.support.trees import snapshot

ROOT = Path(__file__).parents[2]


class Rows:
    """A tracker that keeps its rows in a list, and counts those that were sent."""

    def __init__(self, rows=()):
        self.rows, self.sent, self.shown = list(rows), 0, 0

    def read(self):
        return list(self.rows)

    def clear(self):
        self.rows = []

    def add(self, rows):
        self.rows += rows
        self.sent += len(rows)

    def flush(self):
        self.shown = len(self.rows)


def rows_of(log):
    return LogReader(log).read(10**6)


@pytest.mark.parametrize("known, sent", [(0, 30), (20, 10), (30, 0)])
def test_only_rows_that_are_missing_are_sent(tmp_path, known, sent):
    log = make_run(tmp_path, 30) / "log.jsonl"
    tracker = Rows(rows_of(log)[:known])
    assert track.send(LogReader(log), tracker, lambda: False, lambda row: None) == 30
    assert tracker.rows == rows_of(log) and (tracker.sent, tracker.shown) == (sent, 30)


@pytest.mark.parametrize("change", ["a value", "a step more", "a name less", "all of another run"])
def test_rows_that_are_not_the_logs_are_replaced(tmp_path, change):
    log = make_run(tmp_path, 30) / "log.jsonl"
    known = rows_of(log)
    if change == "a value":
        known[4] = Row(4, known[4].values | {"loss": 9.0})
    elif change == "a step more":
        known.append(Row(30, {"loss": 1.0}))
    elif change == "a name less":
        del known[9].values["loss"]
    else:
        log.write_text("")
    tracker = Rows(known)
    track.send(LogReader(log), tracker, lambda: False, lambda row: None)
    assert tracker.rows == rows_of(log) and tracker.shown == len(tracker.rows)


def test_of_a_step_that_is_there_twice_the_last_row_is_sent(tmp_path, monkeypatch):
    log, tracker = make_run(tmp_path, 2000) / "log.jsonl", Rows()
    monkeypatch.setattr(track.time, "sleep", lambda seconds: None)
    log.write_text(log.read_text() + line(1990, 9.0) + line(1991, 8.0))
    assert track.send(LogReader(log), tracker, lambda: False, lambda row: None) == 2000
    losses = [row.values["loss"] for row in tracker.rows]
    assert losses == [1 / (step + 3) for step in range(1990)] + [9, 8] + [1 / (step + 3) for step in range(1992, 2000)]


def test_it_follows_a_trainer_that_resumes_until_that_ends(tmp_path, monkeypatch):
    """Between two looks rows are added, cut off and written again, amended; even after the last question."""
    run, draw = make_run(tmp_path, 3), random.Random(1)
    log, tracker, lines = run / "log.jsonl", Rows(), []
    monkeypatch.setattr(track.time, "sleep", lambda seconds: None)

    def write():
        nonlocal lines
        lines = lines[: draw.randint(len(lines) // 2, len(lines))]
        lines += [line(step, draw.random()) for step in range(len(lines), len(lines) + draw.randint(0, 9))]
        if lines and draw.random() < 0.3:
            lines[-1] = lines[-1].replace("}", ', "val_loss": 2.5}')
        log.write_text("".join(lines))

    looks = iter([True] * 50)

    def is_growing():
        write()
        return next(looks, False)

    track.send(LogReader(log), tracker, is_growing, lambda row: write() if draw.random() < 0.1 else None)
    assert lines and tracker.rows == rows_of(log) and tracker.shown == len(lines)


def test_a_run_is_sent_whole_and_again_to_the_same_end(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path, 2500)
    for _ in range(2):
        code, out, _, problem = run_command(["track", str(run), "--to", "tensorboard"])
        assert (code, problem) == (0, "")
        assert out == f"sent      2,500 rows to tensorboard; tensorboard --logdir {run}\n"
        assert require_equal(run, "tensorboard") == 2500
    log = (run / "log.jsonl").read_text()
    (run / "log.jsonl").write_text("".join(log.splitlines(keepends=True)[:1000]) + line(1000, 0.5, val_loss=0.25))
    assert run_command(["track", str(run), "--to", "tensorboard"]).code == 0
    assert require_equal(run, "tensorboard") == 1001


@pytest.mark.parametrize("step", [0, 1, 1500, 2500])
def test_no_time_is_after_that_of_its_row(tmp_path, step):
    """Rows before the last start, at noon, are before noon; those since are after it."""
    run, noon = make_run(tmp_path, 2500), 1.8e9
    os.utime(run / "config.json", (noon, noon))
    began = track.estimate_beginning(run, step)
    times = [began + row.seconds for row in rows_of(run / "log.jsonl")]
    ms = [json.loads(text)["step_ms"] for text in (run / "log.jsonl").read_text().splitlines()]
    assert times == pytest.approx([noon + (sum(ms[: i + 1]) - sum(ms[:step])) / 1000 for i in range(2500)], abs=1e-6)


def test_what_can_not_be_sent_is_one_line(tmp_path, monkeypatch):
    run = make_run(tmp_path, 3)
    words = ["track", str(run), "--to", "tensorboard"]

    class Broken(Rows):
        def __init__(self, about):
            raise ValueError("no server\nat all")

    monkeypatch.setattr(track, "require_installed", lambda name: None)
    monkeypatch.setitem(track.TRACKERS, "tensorboard", Broken)
    code, _, err, problem = run_command(words)
    assert (code, problem) == (75, "")
    assert err == ("error: tensorboard: ValueError: no server; run the same command again: it sends what is missing\n")
    with hold(run / "tensorboard"):
        before = snapshot(run)
        assert "in use by another command" in run_command(words).err
        assert snapshot(run) == before
    (run / "wandb").symlink_to(tmp_path)
    (run / "tensorboard" / "events.out.tfevents.0000000000").symlink_to(tmp_path / "run" / "log.jsonl")
    before = snapshot(tmp_path)
    for name, link in (("wandb", "wandb"), ("tensorboard", "events.out.tfevents.0000000000")):
        code, _, err, problem = run_command(["track", str(run), "--to", name])
        assert (code, problem) == (2, "") and f"{link} is a symbolic link" in err
    assert snapshot(tmp_path) == before


def test_a_run_that_is_moved_ends_it_such_that_it_is_started_again(tmp_path, monkeypatch):
    """The run makes its folder anew, with the rows from there on: these are sent by the next start."""
    pytest.importorskip("tensorboard")
    run, looks = make_run(tmp_path, 20), iter([True])
    config = (run / "config.json").read_bytes()
    monkeypatch.setattr(track, "is_held", lambda folder: next(looks, False) or run.rename(tmp_path / "moved"))
    monkeypatch.setattr(track.time, "sleep", lambda seconds: None)
    code, _, err, problem = run_command(["track", str(run), "--to", "tensorboard"])
    assert (code, problem) == (75, "") and not run.exists()
    assert err == f"error: {run / 'tensorboard'}: was moved or deleted; run the same command again\n"
    run.mkdir()
    (run / "config.json").write_bytes(config)
    (run / "log.jsonl").write_text(line(20, 0.5) + line(21, 0.25))
    monkeypatch.setattr(track, "is_held", lambda folder: False)
    assert run_command(["track", str(run), "--to", "tensorboard"]).code == 0
    assert require_equal(run, "tensorboard") == 2


@pytest.mark.slow
def test_kills_lose_and_repeat_nothing(tmp_path):
    """SIGKILL at random moments; `python -m tests.support.kill_tracker --trials 50` has real trainers, too."""
    pytest.importorskip("tensorboard")
    run, draw, lines = make_run(tmp_path), random.Random(0), []
    command = [sys.executable, "-m", "jaxgpt", "track", "run", "--to", "tensorboard"]
    trainer = Lock(run)
    for trial in range(3):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, **pipes)
        lines = lines[: len(lines) // 2]
        started, seconds = time.monotonic(), draw.uniform(0.5, 1.5)
        while time.monotonic() - started < seconds or (trial == 2 and not list(run.glob("tensorboard/events.out*"))):
            lines += [line(step, draw.random()) for step in range(len(lines), len(lines) + 50)]
            (run / "log.jsonl").write_text("".join(lines))
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        if trial < 2:
            process.kill()
            process.communicate()
    trainer.release()
    _, errors = process.communicate(timeout=60)
    assert (process.returncode, errors) == (0, "")
    assert require_equal(run, "tensorboard") == len(lines)
