"""Rows of a log that grows, is cut and is amended: what was read is what is there."""

import json
import random

import pytest

from jaxgpt.reports.follow import LogReader, Row
from jaxgpt.reports.history import read_history
from jaxgpt.runs.rows import read_rows
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


def test_only_finite_numbers_are_read(log):
    counts = '"position": 0, "tokens_seen": 4'
    none = '"loss": null, "grad_norm": NaN, "lr": 1e400, "state": "0a1b", "a b": 1, "\\n": 1'
    log.write_text(
        f'{{"step": 0, {counts}, {none}, "skipped": true}}\n'
        f'{{"step": 2, {counts}, "loss": 1.5, "probe/n": {10**30}, "step_ms": 1e300}}\n'
    )
    first, second = LogReader(log).read(9)
    assert first == Row(0, {"position": 0.0, "tokens_seen": 4.0, "skipped": 1.0})
    more = {"loss": 1.5, "probe/n": 1e30, "step_ms": 1e300}
    assert second == Row(2, {"position": 0.0, "tokens_seen": 4.0} | more) and second.seconds == 2.6e6  # a month


@pytest.mark.parametrize("count", [1, 3, 1000])
def test_of_rows_of_one_step_the_last_is_read_as_in_a_report_and_a_replay(log, count):
    """Such as a log has that was not cut off when the run went back to a checkpoint; and once more while it is read."""
    draw, reader, text, rows = random.Random(0), LogReader(log), "", []
    for steps in ([0, 1, 2, 3], [4, 5, 6, 3, 4, 5, 4], [7, 8], [8, 2]):
        text += "".join(line(step, draw.random()) for step in steps)
        log.write_text(text)
        while True:
            while more := reader.read(count):
                rows += more
            if reader.is_unchanged():
                break
            reader.rewind()
            rows = []
        assert reader.count == len(rows)
        history, replayed = read_history(log), read_rows(log)
        assert [row.step for row in rows] == history.steps.tolist() == sorted(replayed)
        assert [row.values["loss"] for row in rows] == history["loss"].tolist()
        assert [row.values["loss"] for row in rows] == [replayed[row.step]["loss"] for row in rows]
        assert [row.seconds for row in rows] == pytest.approx(history.seconds().tolist())
