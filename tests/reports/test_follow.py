"""Rows of a log that grows, is cut and is amended: what was read is what is there."""

import json
import os
import random

import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.reports.follow import LogReader, Row
from tests.support.logs import line


@pytest.fixture
def log(tmp_path):
    return tmp_path / "log.jsonl"


def test_whatever_happens_to_a_log_the_rows_read_are_its_rows(log):
    """Appended, half written, cut and written again, often within one look, as by a trainer that was killed."""
    draw, reader, rows, changes = random.Random(0), LogReader(log), [], 0
    lines: list[str] = []
    for _ in range(300):
        for _ in range(draw.randint(0, 3)):
            match draw.choice(["append", "append", "append", "cut", "amend", "delete"]):
                case "append":
                    lines += [line(step, draw.random()) for step in range(len(lines), len(lines) + draw.randint(1, 5))]
                case "cut":
                    lines = lines[: draw.randint(0, len(lines))]
                case "amend" if lines:
                    lines[-1] = lines[-1].replace("}", f', "val_loss": {draw.random()}}}')
                case "delete" if draw.random() < 0.1:
                    lines = []
        log.write_text("".join(lines) + draw.choice(["", '{"step": 1, "lo']))
        if not lines and draw.random() < 0.5:
            log.unlink()
        if not reader.is_unchanged():
            reader.rewind()
            rows, changes = [], changes + 1
        while more := reader.read(draw.randint(1, 4)):
            rows += more
        there = [json.loads(text) for text in lines]
        assert reader.is_unchanged() and reader.count == len(lines)
        assert [{"step": row.step} | row.values for row in rows] == there
        if rows:
            assert rows[-1].seconds == pytest.approx(sum(row["step_ms"] for row in there) / 1000)
    assert 20 < changes < 280


def test_a_change_that_keeps_the_length_is_seen(log):
    reader = LogReader(log)
    log.write_text(line(0, 1.5) + line(1, 2.5))
    assert len(reader.read(9)) == 2
    log.write_text(line(0, 1.6) + line(1, 2.5) + line(2, 1.0))
    assert not reader.is_unchanged()


def test_only_finite_numbers_of_rows_in_order_are_read(log):
    log.write_text(
        '{"step": 0, "loss": null, "grad_norm": NaN, "state": "0a1b", "skipped": true, "n": 3, "a b": 1, "\\n": 1}\n'
        'no row\n[]\n{"step": null}\n{"step": 2, "loss": 1.5}\n{"step": 1, "loss": 9}\n{"step": 2, "loss": 9}\n'
        '{"step": 1e400, "loss": 9}\n{"step": 3}\n'
    )
    assert LogReader(log).read(9) == [Row(0, {"skipped": 1.0, "n": 3.0}), Row(2, {"loss": 1.5}), Row(3, {})]


def test_a_log_that_is_no_file_is_refused(log):
    os.mkfifo(log)
    with pytest.raises(CheckpointError, match=r"log\.jsonl: no regular file; give a run folder"):
        LogReader(log).read(1)
