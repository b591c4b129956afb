"""The trackers that a run's rows can be sent to. What a tracker has is read back from itself: nothing else is kept.

Each is made with a run, and has rows in the order of their steps. Its library is imported when it is made.
"""

import dataclasses
import datetime
import hashlib
import importlib.util
import os
import shlex
import shutil
from pathlib import Path
from typing import Any

from jaxgpt.console import escape
from jaxgpt.errors import UsageError
from jaxgpt.files import open_nofollow
from jaxgpt.reports.follow import Row
from jaxgpt.runs.folder import TRACKED

PROJECT = "jaxgpt"
PREFIX = "events.out.tfevents."  # of the names of files that TensorBoard reads


@dataclasses.dataclass(frozen=True)
class TrackedRun:
    """A run, as trackers know it.

    Attributes:
      folder: the run's.
      flags: of its last start.
      began: the Unix time of its first step, had it never paused.
    """

    folder: Path
    flags: dict[str, Any]
    began: float

    @property
    def name(self) -> str:
        return escape(self.folder.resolve().name)

    @property
    def id(self) -> str:
        """Which run it is in a database of several: a hash of where its folder is."""
        return hashlib.sha256(os.fsencode(self.folder.resolve())).hexdigest()[:16]

    def texts(self) -> dict[str, str]:
        """The flags as texts that any library takes."""
        return {name: escape(str(value)) for name, value in self.flags.items()}


class Tracker:
    """Where rows are sent to.

    Attributes:
      package: its library, for pip.
      hint: a command that shows them.
    """

    package: str
    hint: str

    def read(self) -> list[Row]:
        """The rows that it has and that more can be added to; none if it is filled anew at each start."""
        return []

    def clear(self) -> None:
        """Begin anew, without any row."""
        raise NotImplementedError

    def add(self, rows: list[Row]) -> None:
        """Add rows after those that it has."""
        raise NotImplementedError

    def flush(self) -> None:
        """Show the rows that were added."""

    def close(self) -> None:
        """No rows are added any more."""


class TensorBoard(Tracker):
    """An event file in the run's folder, written anew at each start: a file beside it, which then takes its place."""

    package = "tensorboard>=2.21"

    def __init__(self, run: TrackedRun):
        from tensorboard.compat.proto import event_pb2, summary_pb2
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._events, self._summaries, self._writer_of = event_pb2, summary_pb2, RecordWriter
        self._folder, self._began = run.folder / "tensorboard", run.began
        self._new = self._folder / "events.new"
        self._file = None
        self.hint = f"tensorboard --logdir {shlex.quote(str(run.folder))}"

    def clear(self) -> None:
        self.close()
        self._folder.mkdir(exist_ok=True)
        self._new.unlink(missing_ok=True)
        self._file = open_nofollow(self._new, "xb")
        self._writer = self._writer_of(self._file)
        Event, SessionLog = self._events.Event, self._events.SessionLog
        self._write(Event(wall_time=self._began, file_version="brain.Event:2"))
        # A TensorBoard that has read the file before drops what it knows.
        self._write(Event(wall_time=self._began, step=0, session_log=SessionLog(status=SessionLog.START)))

    def add(self, rows: list[Row]) -> None:
        Value = self._summaries.Summary.Value
        for row in rows:
            values = [Value(tag=name, simple_value=value) for name, value in row.values.items()]
            summary = self._summaries.Summary(value=values)
            self._write(self._events.Event(wall_time=self._began + row.seconds, step=row.step, summary=summary))

    def flush(self) -> None:
        self._file.flush()
        if self._new.exists():
            old = sorted(self._folder.glob(PREFIX + 10 * "[0-9]"))
            number = int(old[-1].name.removeprefix(PREFIX)) + 1 if old else 0  # TensorBoard reads them in this order
            self._new.rename(self._folder / f"{PREFIX}{number:010d}")
            for path in old[:-1]:
                path.unlink()
            for path in old[-1:]:  # a TensorBoard that reads it would not find the next one if it were gone
                os.truncate(path, 0)

    def close(self) -> None:
        if self._file:
            self._file.close()

    def _write(self, event: Any) -> None:
        self._writer.write(event.SerializeToString())


class WandB(Tracker):
    """An offline run in the run's folder, written anew at each start: Weights & Biases takes no step twice."""

    package = "wandb>=0.31"

    def __init__(self, run: TrackedRun):
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        self._wandb, self._about, self._run = wandb, run, None
        self._folder = run.folder / "wandb"
        self.hint = f"wandb sync {shlex.quote(str(self._folder))}/offline-run-*"

    def clear(self) -> None:
        self.close()
        for old in self._folder.glob(f"offline-run-*-{self._about.id}"):
            shutil.rmtree(old)
        self._folder.mkdir(exist_ok=True)  # W&B takes another folder where the run's is gone
        settings = self._wandb.Settings(
            console="off", silent=True, disable_git=True, save_code=False, x_disable_stats=True, x_disable_meta=True
        )
        self._run = self._wandb.init(
            mode="offline",
            dir=self._folder.parent,
            project=PROJECT,
            id=self._about.id,
            name=self._about.name,
            config=self._about.texts(),
            settings=settings,
        )

    def add(self, rows: list[Row]) -> None:
        for row in rows:
            self._run.log(row.values, step=row.step, commit=True)

    def close(self) -> None:
        if self._run:
            self._run.finish()
            self._wandb.teardown()  # only this waits until the file is whole


class MLflow(Tracker):
    """A run in the database that MLFLOW_TRACKING_URI names; by default in one of its own, in the run's folder."""

    package = "mlflow>=3.17"

    def __init__(self, run: TrackedRun):
        os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
        os.environ.setdefault("MLFLOW_LOGGING_LEVEL", "WARNING")
        import mlflow

        path = run.folder.resolve() / "mlflow" / "mlflow.db"
        uri, shown = os.environ.get("MLFLOW_TRACKING_URI"), '"$MLFLOW_TRACKING_URI"'  # which may have a password in it
        if not uri:
            uri = f"sqlite:///{path}"
            shown = shlex.quote(uri)
            if not path.exists():
                self._make_database(mlflow, path)
        self._entities, self._client, self._about = mlflow.entities, mlflow.MlflowClient(uri), run
        experiment = self._client.get_experiment_by_name(PROJECT)
        self._experiment = experiment.experiment_id if experiment else self._client.create_experiment(PROJECT)
        found = self._client.search_runs([self._experiment], f"tags.jaxgpt_run = '{run.id}'")
        self._runs = [each.info.run_id for each in found]
        self.hint = f"mlflow ui --backend-store-uri {shown}"

    def _make_database(self, mlflow: Any, path: Path) -> None:
        """Make it under another name: a kill while its tables are made leaves one that does not work."""
        for leftover in path.parent.glob("new.db*"):
            leftover.unlink()
        new = path.with_name("new.db")
        mlflow.MlflowClient(f"sqlite:///{new}").search_experiments()
        new.rename(path)

    def read(self) -> list[Row]:
        if len(self._runs) != 1:  # a kill may have come between a new one and its tag
            return []
        steps: dict[int, dict[str, float]] = {}
        for name in self._client.get_run(self._runs[0]).data.metrics:
            for metric in self._client.get_metric_history(self._runs[0], name):
                steps.setdefault(metric.step, {})[name] = metric.value
        return [Row(step, values) for step, values in sorted(steps.items())]

    def clear(self) -> None:
        for run in self._runs:
            self._client.delete_run(run)
        created = self._client.create_run(
            self._experiment, run_name=self._about.name, tags={"jaxgpt_run": self._about.id}
        )
        self._runs = [created.info.run_id]
        Param = self._entities.Param
        self._client.log_batch(
            self._runs[0], params=[Param(name, value[:6000]) for name, value in self._about.texts().items()]
        )

    def add(self, rows: list[Row]) -> None:
        metrics = []
        for row in rows:
            time_ms = int(1000 * (self._about.began + row.seconds))
            metrics += [self._entities.Metric(name, value, time_ms, row.step) for name, value in row.values.items()]
        for start in range(0, len(metrics), 1000):  # the most that it takes at once
            self._client.log_batch(self._runs[0], metrics=metrics[start : start + 1000])

    def close(self) -> None:
        self._client.set_terminated(self._runs[0])


class Trackio(Tracker):
    """A run in the databases of the folder that TRACKIO_DIR names; by default in one of its own, in the run's."""

    package = "trackio>=0.43"

    def __init__(self, run: TrackedRun):
        folder = os.environ.setdefault("TRACKIO_DIR", str(run.folder.resolve() / "trackio"))
        from trackio.sqlite_storage import SQLiteStorage

        self._storage, self._about = SQLiteStorage, run
        self._names = {"project": PROJECT, "run": run.name, "run_id": run.id}
        self.hint = f"TRACKIO_DIR={shlex.quote(folder)} trackio show --project {PROJECT}"

    def read(self) -> list[Row]:
        rows = []
        for log in self._storage.get_logs(**self._names):
            del log["timestamp"]
            rows.append(Row(log.pop("step"), log))
        return sorted(rows, key=lambda row: row.step)

    def clear(self) -> None:
        self._storage.delete_run(**self._names)

    def add(self, rows: list[Row]) -> None:
        times = [datetime.datetime.fromtimestamp(self._about.began + row.seconds, datetime.UTC) for row in rows]
        self._storage.bulk_log(
            **self._names,
            metrics_list=[row.values for row in rows],
            steps=[row.step for row in rows],
            timestamps=[time.isoformat() for time in times],
            config=self._about.texts(),
        )


TRACKERS: dict[str, type[Tracker]] = dict(zip(TRACKED, (TensorBoard, WandB, MLflow, Trackio), strict=True))


def require_installed(name: str) -> None:
    """Refuse a tracker whose library is not installed."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:  # a folder of that name is no library
        raise UsageError(f"{name} is not installed; pip install '{TRACKERS[name].package}'")
