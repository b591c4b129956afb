"""The process beside a run: it ends with the run, after all rows; and a run is not harmed by one that fails."""

import os
import time

import pytest

from jaxgpt.locks import Lock, hold
from jaxgpt.training import tracking
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.resume import load_run_config, resume_command
from jaxgpt.training.run import run
from jaxgpt.training.tracking import TrackerProcess
from tests.support.kill_tracker import require_equal
from tests.support.logs import make_run


def test_no_tracker_is_no_process(tmp_path):
    with TrackerProcess(tmp_path, "none") as tracker:
        tracker.start()
        tracker.after_step(None, {})
        assert tracker._process is None


def test_one_that_fails_is_one_note_and_the_run_goes_on(tmp_path, capsys):
    """Here for the lack of a run in the folder."""
    with TrackerProcess(tmp_path / "nowhere", "tensorboard") as tracker:
        tracker.start()
        if hasattr(os, "getpriority"):
            assert os.getpriority(os.PRIO_PROCESS, tracker._process.pid) == os.getpriority(os.PRIO_PROCESS, 0) + 10
        while tracker._process:
            tracker.after_step(None, {})
            time.sleep(0.01)
        tracker.after_step(None, {})
    out, err = capsys.readouterr()
    assert err == "" and out.count("\n") == 1 and out.startswith("note      tensorboard gets no rows: ")
    assert out.endswith("; jaxgpt track sends what is missing\n")


def test_one_that_may_succeed_later_is_tried_again_and_waited_for_a_bounded_time(tmp_path, capsys, monkeypatch):
    """Here another one holds the tracker's folder at first; and then it sees the run's lock held."""
    pytest.importorskip("tensorboard")
    monkeypatch.setattr(tracking, "RETRY_S", 0)
    monkeypatch.setattr(tracking, "PATIENCE_S", 0.1)
    lock = Lock(make_run(tmp_path, 3))
    with TrackerProcess(tmp_path / "run", "tensorboard") as tracker:
        with hold(tmp_path / "run" / "tensorboard"):
            tracker.start()
            tracker._process.wait()
        tracker.after_step(None, {})
        assert tracker._process.poll() is None
    first, second = capsys.readouterr().out.splitlines()
    assert "in use by another command" in first and first.endswith("; jaxgpt track sends what is missing")
    assert second == "note      rows are still being sent to tensorboard; that process ends by itself"
    lock.release()
    assert tracker._process.wait(60) == 0
    assert require_equal(tmp_path / "run", "tensorboard") == 3


@pytest.mark.slow
def test_a_run_is_tracked_to_its_end_and_beyond(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    (tmp_path / "text.txt").write_text("To be, or not to be, that is the question: " * 9)
    monkeypatch.setattr(tracking, "PATIENCE_S", 60)  # for a machine that is busy
    flags = {"n_layer": 2, "n_head": 2, "n_embd": 20, "block_size": 32, "B": 2, "T": 16}
    config = TrainConfig.of(**flags, data=f"{tmp_path}/text.txt", out=tmp_path / "run", steps=5, track="tensorboard")
    for steps in (5, 8):
        assert run(config.replace(steps=steps), None) == 0
        assert require_equal(tmp_path / "run", "tensorboard") == steps
    assert load_run_config(tmp_path / "run")[0].run.track == "tensorboard"
    assert "--track tensorboard" in resume_command(config)
