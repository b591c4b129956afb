"""Kill a trainer or its tracker at random moments, and hold what the tracker has to the run's log.jsonl.

python -m tests.support.kill_tracker --trials 50

The model is tiny, the processes and SIGKILL are real. A trainer runs and saves often; it is killed and resumes, which
cuts off the rows after its newest checkpoint. Its tracker is killed and started anew meanwhile. Each time a trainer is
gone, the tracker must end by itself, and have exactly the rows of the log.
"""

import collections
import dataclasses
import json
import os
import random
import sqlite3
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import tyro

from jaxgpt.reports.trackers import TRACKERS

ROOT = Path(__file__).parents[2]
SHAPE = "--n-layer 2 --n-head 2 --n-embd 16 --block-size 32 --B 2 --T 16 --device cpu --data text.txt"
Rows = dict[int, dict[str, float]]


@dataclasses.dataclass
class Flags:
    """Kill trainers and trackers at random moments."""

    trials: int = 50
    """Kills, of both together."""
    to: str = "tensorboard"
    """The tracker."""
    seed: int = 0
    """Of the moments."""


# ---- What a tracker has: read by its own program, or from its files, and not by ours. Each row must be there once


def collect(values: list[tuple[int, str, float]]) -> Rows:
    """Rows of (step, name, value), of which none may be there twice."""
    rows: Rows = {}
    for step, name, value in values:
        assert name not in rows.setdefault(step, {}), f"{name} of step {step} is there twice"
        rows[step][name] = value
    return rows


def read_tensorboard(run: Path) -> Rows:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(run / "tensorboard"), size_guidance={"scalars": 0}).Reload()
    tags = events.Tags()["scalars"]
    return collect([(event.step, tag, event.value) for tag in tags for event in events.Scalars(tag)])


def read_wandb(run: Path) -> Rows:
    from wandb.proto import wandb_internal_pb2

    (path,) = run.glob("wandb/offline-run-*/*.wandb")
    content, at, data, values = path.read_bytes(), 7, b"", []  # LevelDB's log format, after a header
    while at + 7 <= len(content):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
        _, size, kind = struct.unpack_from("<IHB", content, at)
        data += content[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # a full record, or its last part
            record, data = wandb_internal_pb2.Record.FromString(data), b""
            if record.WhichOneof("record_type") == "history":
                items = {(item.key or item.nested_key[0]): json.loads(item.value_json) for item in record.history.item}
                step = items.get("_step", record.history.step.num)
                values += [(step, name, value) for name, value in items.items() if name[0] != "_"]
    return collect(values)


def read_mlflow(run: Path) -> Rows:
    with sqlite3.connect(run / "mlflow" / "mlflow.db") as database:
        query = "SELECT step, key, value FROM metrics JOIN runs USING (run_uuid) WHERE lifecycle_stage = 'active'"
        return collect(database.execute(query).fetchall())


def read_trackio(run: Path) -> Rows:
    with sqlite3.connect(run / "trackio" / "jaxgpt.db") as database:
        rows = database.execute("SELECT step, metrics FROM metrics").fetchall()
    return collect([(step, *item) for step, metrics in rows for item in json.loads(metrics).items()])


READERS = {"tensorboard": read_tensorboard, "wandb": read_wandb, "mlflow": read_mlflow, "trackio": read_trackio}


def read_log(run: Path, single: bool) -> Rows:
    """The numbers of a log.jsonl; `single`: in single precision, as TensorBoard has them."""
    rows = map(json.loads, (run / "log.jsonl").read_text().splitlines())
    to = np.float32 if single else float
    return {
        row["step"]: {name: float(to(value)) for name, value in row.items() if name != "step" and value is not None}
        for row in rows
    }


def require_equal(run: Path, tracker: str) -> int:
    """Assert that a tracker has the rows of a log; how many there are."""
    has, log = READERS[tracker](run), read_log(run, tracker == "tensorboard")
    differing = [step for step in {**has, **log} if has.get(step) != log.get(step)]
    assert has == log, f"{len(has)} rows and {len(log)}, which differ at the steps {differing[:4]}"
    return len(log)


# ---- Processes


def start(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "jaxgpt", *words]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "JAXGPT_CACHE": str(folder / "cache")}
    return subprocess.Popen(
        command, cwd=folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )


def end(process: subprocess.Popen, timeout: float = 120) -> None:
    """Wait for a tracker's own end."""
    _, errors = process.communicate(timeout=timeout)
    assert process.returncode == 0, errors


def kill(process: subprocess.Popen) -> None:
    process.kill()
    _, errors = process.communicate()
    assert "Traceback" not in errors, errors


def wait_for_row(run: Path, trainer: subprocess.Popen, size: int) -> None:
    """Wait until the log has another size than before the trainer's start: its first step is done."""
    while (run / "log.jsonl").stat().st_size == size if (run / "log.jsonl").exists() else True:
        assert trainer.poll() is None, trainer.stderr.read()
        time.sleep(0.02)


def survive(folder: Path, trials: int, tracker: str, seed: int = 0) -> collections.Counter:
    """Kill trainers and trackers so often; how often each, how many rows were cut off, and what was compared."""
    draw, count, run = random.Random(seed), collections.Counter(), folder / "run"
    (folder / "text.txt").write_text(" ".join(f"word{n % 7}" for n in range(820)) + "\n")
    words = [*SHAPE.split(), "--steps", "1000000", "--save-every", "97", "--out", "run"]
    kills = 0
    while kills < trials:
        size = (run / "log.jsonl").stat().st_size if run.exists() else 0
        trainer = start(folder, "train", *words)
        follower = None
        try:
            if size:  # it may begin before the trainer cuts off rows, and must not end before
                while not (run / ".lock").read_text().startswith(f"process {trainer.pid} "):
                    assert trainer.poll() is None, trainer.stderr.read()
                    time.sleep(0.02)
                follower = start(folder, "track", "run", "--to", tracker)
            wait_for_row(run, trainer, size)
            resumed = (run / "log.jsonl").stat().st_size
            count["cut off"] += resumed < size
            follower = follower or start(folder, "track", "run", "--to", tracker)
            while kills < trials and draw.random() < 0.6:
                time.sleep(draw.uniform(0, 4))
                kill(follower)
                count["tracker"] += 1
                kills += 1
                follower = start(folder, "track", "run", "--to", tracker)
            time.sleep(draw.uniform(0, 3))
            kill(trainer)
            if kills < trials:
                count["trainer"] += 1
                kills += 1
            end(follower)
        finally:
            for process in filter(None, (trainer, follower)):
                process.kill()
        count["rows compared"] += require_equal(run, tracker)
        count["comparisons"] += 1
    end(start(folder, "track", "run", "--to", tracker))  # once more changes nothing
    require_equal(run, tracker)
    return count


def main(flags: Flags) -> None:
    assert flags.to in TRACKERS
    with tempfile.TemporaryDirectory() as name:
        print(flags.to, dict(survive(Path(name), flags.trials, flags.to, flags.seed)))


if __name__ == "__main__":
    main(tyro.cli(Flags))
