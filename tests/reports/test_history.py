"""A log as columns, against the rows that were written."""

import json
import math
import random

import numpy as np
import pytest

from jaxgpt.reports.history import read_history
from jaxgpt.runs import rows
from tests.support.run_folders import make_rows

MORE = [{}, {"loss": None}, {"skipped": True}, {"val_loss": 2.5, "accuracy": 0.5}, {"state": "0012"}, {"new": [1, {}]}]


@pytest.mark.parametrize("piece", [1, 7, 2**16])
def test_columns_are_the_rows_that_were_written(tmp_path, monkeypatch, piece):
    monkeypatch.setattr(rows, "PIECE", piece)
    for seed in range(3):
        draw = random.Random(seed)
        written = [row | draw.choice(MORE) for row in make_rows(40) + make_rows(10, seed=1)]
        draw.shuffle(written)
        (tmp_path / "log.jsonl").write_text("".join(json.dumps(row) + "\n" for row in written))
        last, read = {row["step"]: row for row in written}, read_history(tmp_path / "log.jsonl")
        assert read.steps.tolist() == sorted(last) and read.skipped_lines == 0
        for name in ("loss", "grad_norm", "position", "val_loss", "accuracy", "nothing"):
            values = [last[step].get(name) for step in sorted(last)]
            assert [None if math.isnan(v) else v for v in read[name].tolist()] == values, name
        assert not {"state", "new"} & read.columns.keys()
        has = [i for i, step in enumerate(sorted(last)) if any(name.startswith("val_") for name in last[step])]
        assert read.validated().tolist() == has
        seconds = [sum(last[s]["step_ms"] for s in sorted(last) if s <= step) / 1000 for step in sorted(last)]
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


def test_a_log_that_is_not_there_is_empty(tmp_path):
    read = read_history(tmp_path / "log.jsonl")
    assert len(read.steps) == len(read["loss"]) == len(read.validated()) == len(read.seconds()) == 0
    assert np.isnan(read["loss"]).all()
