"""A run's folder and its log as a trainer writes them, without JAX."""

import json
import tarfile
from pathlib import Path

ARCHIVE = Path(__file__).with_name("before_the_move.tar.xz")


def line(step: int, loss: float, **more: float) -> str:
    """A row of a log.jsonl."""
    row = {"step": step, "loss": loss, "position": 128 * step, "tokens_seen": 128 * (step + 1)}
    return json.dumps(row | {"step_ms": 1.0 + loss} | more) + "\n"


def make_run(folder: Path, steps: int = 0) -> Path:
    """A run's folder with config.json, and a log.jsonl of so many rows."""
    run = folder / "run"
    run.mkdir()
    with tarfile.open(ARCHIVE) as archive:
        (run / "config.json").write_bytes(archive.extractfile("text/config.json").read())
    (run / "log.jsonl").write_text("".join(line(step, 1 / (step + 3)) for step in range(steps)))
    return run
