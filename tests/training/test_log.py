import contextlib
import json
import math
import re
import resource
import shutil

import jax.numpy as jnp
import pytest

from jaxgpt.errors import NumericsError
from jaxgpt.training.log import Report


def facts(step):
    return {"step": step, "lr": 3e-4, "position": 128 * step, "tokens_seen": 128 * (step + 1)}


def metrics(loss, grad_norm=1.0):
    return {"loss": jnp.float32(loss), "grad_norm": jnp.float32(grad_norm)}


def test_a_row_is_written_when_the_next_step_is_there(tmp_path, capsys):
    with Report(tmp_path / "log.jsonl", 0, 3) as report:
        report.add(facts(0), 128, metrics(10.5))
        assert (tmp_path / "log.jsonl").read_text() == ""
        report.add(facts(1), 128, metrics(9.25, 2.0))
        assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1
        report.flush()
        report.flush()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    names = ["step", "loss", "grad_norm", "lr", "position", "tokens_seen", "step_ms", "tokens_per_s"]
    assert [list(row) for row in rows] == [names, names]
    assert [rows[1][name] for name in names[:6]] == [1, 9.25, 2.0, 3e-4, 128, 256]
    assert rows[1]["step_ms"] > 0
    assert abs(rows[1]["tokens_per_s"] * rows[1]["step_ms"] / 128_000 - 1) < 0.01
    header, *printed = capsys.readouterr().out.splitlines()
    assert header.split(" | ")[0].strip() == "step" and len(printed) == 2
    assert re.fullmatch(r" +1 \| +9\.2500 \| +2\.0000 \| 3\.00e-04 \| +[\d.]+ \| +[\d,]+", printed[1])
    assert all(line.index("|") == header.index("|") and len(line) == len(header) for line in printed)


def test_the_summary_leaves_out_the_row_that_compiled(tmp_path):
    with Report(tmp_path / "log.jsonl", 0, 3) as report:
        for step in range(3):
            report.add(facts(step), 128, metrics(7 - step))
        report.flush()
        _, *rest = (json.loads(line)["step_ms"] for line in (tmp_path / "log.jsonl").read_text().splitlines())
    mean = sum(rest) / 2
    assert report.summary().startswith("loss 6.0000 (mean of the last 3 steps), ")
    assert f"{mean:,.1f} ms a step" in report.summary()


def test_the_summary_of_a_single_step(tmp_path):
    with Report(tmp_path / "log.jsonl", 0, 1) as report:
        report.add(facts(0), 128, metrics(7))
        report.flush()
    assert report.summary().startswith("loss 7.0000 (mean of the last 1 steps), ")


@pytest.mark.parametrize("damage", ["", "not json\n", "[]\n", "{}\n", '{"step": null}\n', "\xff\n"])
@pytest.mark.parametrize("tail", ["", '{"step": 2, "lo', '{"step": 2}\n{"step": 3}\n'])
def test_rows_of_a_killed_run_are_cut_off(tmp_path, damage, tail):
    """What comes after the checkpoint goes, half a row too; a damaged row before it harms no other."""
    rows = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(4)]
    kept = rows[0] + damage + rows[1]
    (tmp_path / "log.jsonl").write_text(kept + tail)
    with Report(tmp_path / "log.jsonl", 2, 9):
        pass
    assert (tmp_path / "log.jsonl").read_text() == kept
    (tmp_path / "log.jsonl").write_text("".join(rows))
    with Report(tmp_path / "log.jsonl", 3, 9) as report:
        report.add(facts(3), 128, metrics(5.0))
        report.flush()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_steps_that_are_not_finite_may_be_skipped_but_not_more_in_a_row_than_was_said(tmp_path, capsys):
    losses = [7.0, float("nan"), float("inf"), 6.0, float("nan"), float("nan"), float("nan")]
    with Report(tmp_path / "log.jsonl", 0, 9, skip=2) as report:
        for step, value in enumerate(losses):
            report.add(facts(step), 128, metrics(value))
        with pytest.raises(NumericsError, match=r"step 6: .*--skip-bad-steps 3"):
            report.flush()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [7.0, None, None, 6.0, None, None]
    assert [row.get("skipped", False) for row in rows] == [False, True, True, False, True, True]
    assert capsys.readouterr().out.count("not finite: skipped") == 4
    assert report.summary().startswith("loss 6.5000 (mean of the last 2 steps)")


def test_a_new_start_counts_the_skipped_steps_before_it(tmp_path):
    with Report(tmp_path / "log.jsonl", 0, 9, skip=2) as report:
        for step, value in enumerate([7.0, math.nan, math.nan]):
            report.add(facts(step), 128, metrics(value))
        report.flush()
    with Report(tmp_path / "log.jsonl", 3, 9, skip=2) as report:
        report.add(facts(3), 128, metrics(math.inf))
        with pytest.raises(NumericsError, match="step 3"):
            report.flush()


def test_a_fingerprint_is_written_as_hexadecimal_digits(tmp_path):
    with Report(tmp_path / "log.jsonl", 0, 1) as report:
        report.add(facts(0), 128, metrics(7) | {"state": jnp.uint32(0xBEEF)})
        report.flush()
    assert json.loads((tmp_path / "log.jsonl").read_text())["state"] == "0000beef"


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, values):
    with Report(tmp_path / "log.jsonl", 0, 3) as report:
        report.add(facts(0), 128, metrics(7))
        report.add(facts(1), 128, metrics(*values))
        with pytest.raises(NumericsError, match=r"step 1: loss .*not finite; .*lower --lr"):
            report.flush()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


@contextlib.contextmanager
def no_file_may_grow():
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def steps(log):
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def test_rows_that_the_log_cannot_take_are_written_when_it_can(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with Report(log, 0, 9) as report:
        with no_file_may_grow():  # of the first row, ten bytes are written
            for step in range(4):
                report.add(facts(step), 128, metrics(7))
        assert len(log.read_bytes()) == 10
        report.flush()
    assert steps(log) == [0, 1, 2, 3] and not report.lost
    assert capsys.readouterr().out.count(f"note      {log}: File too large; its rows are kept and tried again") == 1


def test_rows_that_it_never_took_are_told(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with no_file_may_grow(), Report(log, 0, 9) as report:
        for step in range(4):
            report.add(facts(step), 128, metrics(7))
        report.flush()
    assert report.lost == f"{log}: File too large; rows are lost: the last 4"
    assert f"note      {report.lost}\n" in capsys.readouterr().out
    with Report(log, 4, 9):  # half of the first is there
        pass
    assert f"note      {log} has no rows of the steps from 0 to 3\n" in capsys.readouterr().out and steps(log) == []


def test_a_row_that_was_half_written_when_the_log_was_deleted_is_written_whole(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with Report(log, 0, 9) as report:
        report.add(facts(0), 128, metrics(7))
        with no_file_may_grow():
            report.add(facts(1), 128, metrics(7))
        assert len(log.read_bytes()) == 10
        log.unlink()
        report.flush()
    assert steps(log) == [0, 1]


def test_a_log_that_was_deleted_begins_anew(tmp_path):
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    with Report(log, 0, 9) as report:
        for step in range(4):
            report.add(facts(step), 128, metrics(7))
            if step == 2:
                shutil.rmtree(log.parent)
        report.flush()
    assert steps(log) == [2, 3]
