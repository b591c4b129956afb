"""A log as columns, against its rows read one by one."""

import json
import math
import os
import random

import numpy as np
import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.reports import history
from jaxgpt.reports.history import read_history
from jaxgpt.runs.rows import read_rows
from tests.support.run_folders import make_rows

NOT_ROWS = [
    "",
    "{",
    "[1]",
    "7",
    '{"step": 1}',
    '{"step": 1.5, "position": 0, "tokens_seen": 2}',
    "\ufeffx",
    9 * "[" + "}",
]
NOT_ROWS += ['{"step": 1, "position": 0, "tokens_seen": 2}, {"step": 2}', 2000 * "[" + 2000 * "]", "\x00", '"a']
MORE = [{}, {"loss": None}, {"skipped": True}, {"val_loss": 2.5, "accuracy": 0.5}, {"state": "0012"}, {"new": [1, {}]}]


def write_mixed(path, seed):
    """Rows in disorder, some twice, among lines that are none; returns how many those are."""
    draw = random.Random(seed)
    rows = [row | draw.choice(MORE) for row in make_rows(40) + make_rows(10, seed=1)]
    draw.shuffle(rows)
    lines = [*map(json.dumps, rows), *NOT_ROWS]
    draw.shuffle(lines)
    path.write_text("\n".join(lines) + '\n{"step": 99, "lo')
    return len(NOT_ROWS)


@pytest.mark.parametrize("piece", [1, 500, 1 << 24])
def test_columns_are_the_rows_read_one_by_one(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(history, "PIECE", piece)
    log = tmp_path / "log.jsonl"
    for seed in range(3):
        skipped = write_mixed(log, seed)
        rows, read = read_rows(log), read_history(log)
        assert read.steps.tolist() == sorted(rows) and read.skipped_lines == skipped
        for name in ("loss", "grad_norm", "position", "val_loss", "accuracy", "nothing"):
            values = [rows[step].get(name) for step in sorted(rows)]
            assert [None if math.isnan(v) else v for v in read[name].tolist()] == values, name
        assert not {"state", "new"} & read.columns.keys()
        has = [i for i, step in enumerate(sorted(rows)) if any(name.startswith("val_") for name in rows[step])]
        assert read.validated().tolist() == has
        seconds = [sum(rows[s]["step_ms"] for s in sorted(rows) if s <= step) / 1000 for step in sorted(rows)]
        assert read.seconds() == pytest.approx(seconds)


def test_what_is_no_number_or_too_large_is_no_value(tmp_path):
    log = tmp_path / "log.jsonl"
    row = '"position": 0, "tokens_seen": 32'
    big = ["1" + 400 * "0", "1e999", "NaN", "-Infinity", 5000 * "1", "true", "12", "null", '"7"']
    log.write_text("".join(f'{{"step": {i}, {row}, "loss": {value}}}\n' for i, value in enumerate(big[:-1])))
    assert [None if math.isnan(v) else v for v in read_history(log)["loss"].tolist()] == [*[None] * 5, 1, 12, None]
    log.write_text(f'{{"step": 3, {row}, "loss": "7", "a b": 1, "=cmd": 1, "b": 1}}\n{{"step": {10**30}, {row}}}\n')
    read = read_history(log)
    assert read.steps.tolist() == [3] and read.columns.keys() == {"position", "tokens_seen", "b"}


def test_a_log_that_is_not_there_is_empty_and_one_that_is_no_file_is_refused(tmp_path):
    read = read_history(tmp_path / "log.jsonl")
    assert len(read.steps) == len(read["loss"]) == len(read.validated()) == len(read.seconds()) == 0
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe"):
        with pytest.raises(CheckpointError, match="no regular file; give a run folder"):
            read_history(path)
    assert np.isnan(read["loss"]).all()
