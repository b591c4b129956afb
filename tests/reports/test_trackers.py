"""What trackers have is what they were sent, by their own readers; and who is not installed is named."""

import os
import shutil
import subprocess
import sys
import types

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.reports import trackers
from jaxgpt.reports.follow import LogReader
from jaxgpt.reports.trackers import TRACKERS, MLflow, TensorBoard, TrackedRun, require_installed
from jaxgpt.runs.folder import PARTS
from tests.support.kill_tracker import READERS, ROOT, read_log, read_tensorboard, require_equal
from tests.support.logs import line, make_run


def test_each_tracker_has_its_package_and_its_folder():
    assert TRACKERS.keys() == READERS.keys() and TRACKERS.keys() < set(PARTS)
    assert all(tracker.package.startswith(f"{name}>=") for name, tracker in TRACKERS.items())


def test_what_is_not_installed_is_named_with_the_way_out(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "here").mkdir()  # such as wandb makes where it is used
    for name in ("missing", "here"):
        monkeypatch.setitem(TRACKERS, name, types.SimpleNamespace(package=f"{name}>=1.0"))
        with pytest.raises(UsageError, match=rf"^{name} is not installed; pip install '{name}>=1\.0'$"):
            require_installed(name)


def test_a_server_s_password_is_not_shown(tmp_path, monkeypatch):
    class Client:
        def __init__(self, uri):
            self.uri = uri

        def get_experiment_by_name(self, name):
            return types.SimpleNamespace(experiment_id="1")

        def search_runs(self, experiments, query):
            return []

    monkeypatch.setitem(sys.modules, "mlflow", types.SimpleNamespace(entities=None, MlflowClient=Client))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "https://me:secret@host")
    run = TrackedRun(tmp_path, {}, 0.0)
    assert MLflow(run).hint == 'mlflow ui --backend-store-uri "$MLFLOW_TRACKING_URI"'
    assert MLflow(run)._client.uri == "https://me:secret@host"
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    (tmp_path / "mlflow").mkdir()
    (tmp_path / "mlflow" / "mlflow.db").touch()
    assert MLflow(run).hint == f"mlflow ui --backend-store-uri sqlite:///{tmp_path}/mlflow/mlflow.db"


@pytest.fixture
def board(tmp_path):
    """A tracker, and a run of 20 rows."""
    pytest.importorskip("tensorboard")
    run = make_run(tmp_path, 20)
    tracker = TensorBoard(TrackedRun(run, {}, 1.8e9))
    yield tracker, run
    tracker.close()


def fill(tracker, run):
    tracker.clear()
    tracker.add(LogReader(run / "log.jsonl").read(99))
    tracker.flush()


def test_tensorboard_reads_the_rows_back(board):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker, run = board
    fill(tracker, run)
    assert require_equal(run, "tensorboard") == 20
    tracker.add([trackers.Row(20, {"loss": 0.1}, seconds=7.5)])
    tracker.flush()
    last = EventAccumulator(str(run / "tensorboard")).Reload().Scalars("loss")[-1]
    assert (last.step, last.wall_time) == (20, 1.8e9 + 7.5)


def test_a_tensorboard_that_is_open_sees_rows_replaced(board):
    """The rows of an event file that is gone are dropped when the next one is read."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    tracker, run = board
    fill(tracker, run)
    viewer = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    (run / "log.jsonl").write_text("".join(line(step, 5.0 + step) for step in range(7)))
    fill(tracker, run)
    seen = viewer.Reload().Scalars("loss")
    assert [(event.step, event.value) for event in seen] == [(step, 5.0 + step) for step in range(7)]


@pytest.mark.parametrize("moment", ["half a row", "before the rename", "after the rename", "in the next file"])
def test_what_a_kill_leaves_is_replaced(board, moment):
    tracker, run = board
    folder = run / "tensorboard"
    fill(tracker, run)
    tracker.close()
    (path,) = folder.iterdir()
    if moment == "half a row":
        os.truncate(path, path.stat().st_size - 5)
        assert len(read_tensorboard(run)) in (19, 20)
    elif moment == "before the rename":
        shutil.copy(path, folder / "events.new")
        assert read_tensorboard(run) == read_log(run, single=True)
    elif moment == "after the rename":
        shutil.copy(path, folder / "events.out.tfevents.0000000001")
        assert read_tensorboard(run) == read_log(run, single=True)  # in both files, and shown once
    else:
        (folder / "events.new").write_bytes(b"half")
    (folder / "events.out.tfevents.1700000000.host.1.0").write_bytes(b"")  # another program's
    fill(tracker, run)
    last = 2 if moment == "after the rename" else 1
    ours = [f"events.out.tfevents.{number:010d}" for number in (last - 1, last)]
    assert sorted(path.name for path in folder.iterdir()) == [*ours, "events.out.tfevents.1700000000.host.1.0"]
    assert (folder / ours[0]).stat().st_size == 0  # which a TensorBoard may have open
    assert require_equal(run, "tensorboard") == 20


SEND = """
import sys
import types
from pathlib import Path
from jaxgpt.commands import main
from tests.support.kill_tracker import require_equal
for text in sys.argv[2:]:
    Path("run", "log.jsonl").write_text(text)
    assert main(["track", "run", "--to", sys.argv[1]]) == 0
    print(require_equal(Path("run"), sys.argv[1]), "rows")
"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_the_others_have_the_rows_too(tmp_path, name, monkeypatch):
    """At first, when one was added, and when rows were cut off and another one is amended; MLflow takes too long."""
    pytest.importorskip(name)
    lines = (make_run(tmp_path, 21) / "log.jsonl").read_text().splitlines(keepends=True)
    texts = ["".join(lines[:20]), "".join(lines), "".join([*lines[:15], line(15, 0.7, val_loss=0.3)])]
    monkeypatch.delenv("TRACKIO_DIR", raising=False)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    command = [sys.executable, "-c", SEND, name, *texts]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    assert [text for text in done.stdout.splitlines() if text.endswith(" rows")] == ["20 rows", "21 rows", "16 rows"]
