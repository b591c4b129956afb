import dataclasses
import json
import math
import os
import random
import re
import shutil
import time
import types

import jax.numpy as jnp
import pytest

from jaxgpt.errors import NumericsError, UsageError
from jaxgpt.runs.fingerprint import combined_fingerprint
from jaxgpt.runs.progress import Run
from jaxgpt.training.log import MetricsLog, RowFile
from jaxgpt.training.probe import Probe
from tests.support import power
from tests.support.limits import no_file_may_grow

RATES = [3e-4] * 9


def runs(step):
    """The run before and after a step of 128 tokens."""
    return tuple(Run(None, n, position=128 * n, tokens_seen=128 * n) for n in (step, step + 1))


def add(log, step, metrics, **validation):
    log.add(*runs(step), metrics, validation)


def metrics(loss, grad_norm=1.0):
    return {"loss": jnp.float32(loss), "grad_norm": jnp.float32(grad_norm)}


def test_a_row_is_written_when_the_next_step_is_there(tmp_path, capsys):
    with MetricsLog(tmp_path / "log.jsonl", 0, 3, RATES) as report:
        add(report, 0, metrics(10.5))
        assert (tmp_path / "log.jsonl").read_text() == ""
        add(report, 1, metrics(9.25, 2.0))
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
    with MetricsLog(tmp_path / "log.jsonl", 0, 3, RATES) as report:
        for step in range(3):
            add(report, step, metrics(7 - step))
        report.flush()
        _, *rest = (json.loads(line)["step_ms"] for line in (tmp_path / "log.jsonl").read_text().splitlines())
    mean = sum(rest) / 2
    assert report.summary().startswith("loss 6.0000 (mean of the last 3 steps), ")
    assert f"{mean:,.1f} ms a step" in report.summary()


def test_the_summary_of_a_single_step(tmp_path):
    with MetricsLog(tmp_path / "log.jsonl", 0, 1, RATES) as report:
        add(report, 0, metrics(7))
        report.flush()
    assert report.summary().startswith("loss 7.0000 (of the last step), ")


@pytest.mark.parametrize("damage", ["", "not json\n", "[]\n", "{}\n", '{"step": null}\n', "\xff\n"])
@pytest.mark.parametrize("tail", ["", '{"step": 2, "lo', '{"step": 2}\n{"step": 3}\n'])
def test_rows_of_a_killed_run_are_cut_off(tmp_path, damage, tail):
    """What comes after the checkpoint goes, half a row too; a damaged row before it harms no other."""
    rows = [json.dumps({"step": step, "loss": 1.0}) + "\n" for step in range(4)]
    kept = rows[0] + damage + rows[1]
    (tmp_path / "log.jsonl").write_text(kept + tail)
    with MetricsLog(tmp_path / "log.jsonl", 2, 9, RATES):
        pass
    assert (tmp_path / "log.jsonl").read_text() == kept
    (tmp_path / "log.jsonl").write_text("".join(rows))
    with MetricsLog(tmp_path / "log.jsonl", 3, 9, RATES) as report:
        add(report, 3, metrics(5.0))
        report.flush()
    assert [json.loads(line)["step"] for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [0, 1, 2, 3]


def test_rows_before_a_checkpoint_survive_a_power_cut(tmp_path, monkeypatch):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "log.jsonl").touch()
    disk = power.Disk(tmp_path / "store")
    disk.sync_all(tmp_path / "run")
    monkeypatch.setattr(os, "fsync", disk.sync)
    with MetricsLog(tmp_path / "run" / "log.jsonl", 0, 9, RATES) as report:
        for step in range(2):
            add(report, step, metrics(5.0))
        report.flush()
        left = [disk.survivors(tmp_path / "run", random.Random(seed))["log.jsonl"] for seed in range(6)]
    assert set(left) == {(tmp_path / "run" / "log.jsonl").read_bytes()} and left[0].count(b"\n") == 2


def test_a_probe_measures_the_model_after_its_steps_and_counts_for_no_time(tmp_path):
    def measure(model):
        time.sleep(0.2)
        return {"probe_score": jnp.float32(model)}

    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES, probe=Probe(measure, every=2)) as report:
        for step in range(4):
            before, run = (dataclasses.replace(each, state=types.SimpleNamespace(model=step)) for each in runs(step))
            report.add(before, run, metrics(5.0), {})
        report.flush()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row.get("probe_score") for row in rows] == [None, 1.0, None, 3.0]
    assert all(row["step_ms"] < 200 for row in rows)


def test_steps_that_are_not_finite_may_be_skipped_but_not_more_in_a_row_than_was_said(tmp_path, capsys):
    losses = [7.0, float("nan"), float("inf"), 6.0, float("nan"), float("nan"), float("nan")]
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, [0.1, 0.2, 0.3], skip=2) as report:
        for step, value in enumerate(losses):
            add(report, step, metrics(value))
        with pytest.raises(NumericsError, match=r"step 6: .*--skip-bad-steps 3"):
            report.flush()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row["loss"] for row in rows] == [7.0, None, None, 6.0, None, None]
    assert [row.get("skipped", False) for row in rows] == [False, True, True, False, True, True]
    assert [row["lr"] for row in rows] == [0.1, 0.2, 0.2, 0.2, 0.3, 0.3]  # the next update takes a skipped step's
    assert capsys.readouterr().out.count("not finite: skipped") == 4
    assert report.summary().startswith("loss 6.5000 (mean of the last 6 steps, 4 of them skipped)")


def test_a_new_start_counts_the_skipped_steps_before_it(tmp_path):
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES, skip=2) as report:
        for step, value in enumerate([7.0, math.nan, math.nan]):
            add(report, step, metrics(value))
        report.flush()
    with MetricsLog(tmp_path / "log.jsonl", 3, 9, RATES, skip=2) as report:
        add(report, 3, metrics(math.inf))
        with pytest.raises(NumericsError, match="step 3"):
            report.flush()


def test_a_fingerprint_of_the_state_is_written_as_often_as_was_asked_for(tmp_path):
    state = {"a": jnp.arange(5.0)}
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES, hash_every=2) as report:
        for step in range(4):
            report.add(*(dataclasses.replace(run, state=state) for run in runs(step)), metrics(7), {})
        report.flush()
    rows = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert [row.get("state") for row in rows] == [None, f"{int(combined_fingerprint(state)):08x}"] * 2


def test_on_a_cpu_a_row_is_written_at_once(tmp_path):
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES, late=False) as report:
        add(report, 0, metrics(7))
        assert steps(tmp_path / "log.jsonl") == [0]


def test_what_is_minimized_is_shown_beside_the_loss(tmp_path, capsys):
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES, minimize="loss_sum") as report:
        add(report, 0, metrics(7) | {"loss_sum": jnp.float32(21.5)})
        report.flush()
    header, row = capsys.readouterr().out.splitlines()
    assert [cell.strip() for cell in header.split("|")][:4] == ["step", "loss", "loss_sum", "grad norm"]
    assert [cell.strip() for cell in row.split("|")][:3] == ["0", "7.0000", "21.5000"]


def test_a_validation_is_logged_with_its_step_and_counts_for_no_time(tmp_path, capsys):
    with MetricsLog(tmp_path / "log.jsonl", 0, 9, RATES) as report:
        add(report, 0, metrics(7))
        with report.pause({}):
            time.sleep(0.2)
        add(report, 1, metrics(6), loss=6.5, loss_stderr=0.25, accuracy=0.5, n=8)
        report.flush()
    _, row = (json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines())
    assert (row["val_loss"], row["val_accuracy"]) == (6.5, 0.5) and row["step_ms"] < 200
    assert capsys.readouterr().out.splitlines()[-1] == "  val | loss 6.5000 ± 0.2500, accuracy 0.5000 of 8"


@pytest.mark.parametrize("values", [(float("nan"), 1.0), (float("inf"), 1.0), (1.0, float("nan"))])
def test_a_loss_that_is_no_number_stops_the_run(tmp_path, values):
    with MetricsLog(tmp_path / "log.jsonl", 0, 3, RATES) as report:
        add(report, 0, metrics(7))
        add(report, 1, metrics(*values))
        with pytest.raises(NumericsError, match=r"step 1: loss .*not finite; .*lower --lr"):
            report.flush()
    assert len((tmp_path / "log.jsonl").read_text().splitlines()) == 1


def steps(log):
    return [json.loads(line)["step"] for line in log.read_text().splitlines()]


def test_rows_that_the_log_cannot_take_are_written_when_it_can(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with MetricsLog(log, 0, 9, RATES) as report:
        with no_file_may_grow():  # of the first row, ten bytes are written
            for step in range(4):
                add(report, step, metrics(7))
        assert len(log.read_bytes()) == 10
        report.flush()
    assert steps(log) == [0, 1, 2, 3] and not report.lost
    assert capsys.readouterr().out.count(f"note      {log}: File too large; its rows are kept and tried again") == 1


def test_a_log_is_not_written_through_a_link(tmp_path, capsys):
    log, victim = tmp_path / "log.jsonl", tmp_path / "victim"
    victim.write_text('{"step": 9}\nmine')
    log.symlink_to(victim)
    with pytest.raises(UsageError, match=r"log\.jsonl is a symbolic link, and jaxgpt writes through none"):
        RowFile(log, 0)
    log.unlink()
    rows = RowFile(log, 0)
    log.unlink()
    log.symlink_to(victim)
    rows.append({"step": 0})  # the run continues
    log.unlink()
    rows.append({"step": 1})
    rows.close()
    assert steps(log) == [0, 1] and victim.read_text() == '{"step": 9}\nmine'
    assert "log.jsonl is a symbolic link, and jaxgpt writes" in capsys.readouterr().out


def test_rows_that_it_never_took_are_told(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with no_file_may_grow(), MetricsLog(log, 0, 9, RATES) as report:
        for step in range(4):
            add(report, step, metrics(7))
        report.flush()
    assert report.lost == f"{log}: File too large; rows are lost: the last 4"
    assert f"note      {report.lost}\n" in capsys.readouterr().out
    with MetricsLog(log, 4, 9, RATES):  # half of the first is there
        pass
    assert f"note      {log} has no rows of the steps from 0 to 3\n" in capsys.readouterr().out and steps(log) == []


def test_a_row_that_was_half_written_when_the_log_was_deleted_is_written_whole(tmp_path, capsys):
    log = tmp_path / "log.jsonl"
    with MetricsLog(log, 0, 9, RATES) as report:
        add(report, 0, metrics(7))
        with no_file_may_grow():
            add(report, 1, metrics(7))
        assert len(log.read_bytes()) == 10
        log.unlink()
        report.flush()
    assert steps(log) == [0, 1]


def test_a_log_that_was_deleted_begins_anew(tmp_path):
    log = tmp_path / "run" / "log.jsonl"
    log.parent.mkdir()
    with MetricsLog(log, 0, 9, RATES) as report:
        for step in range(4):
            add(report, step, metrics(7))
            if step == 2:
                shutil.rmtree(log.parent)
        report.flush()
    assert steps(log) == [2, 3]


def test_a_row_is_extended_in_one_write_or_stays_as_it_is(tmp_path, capsys):
    log, rows = tmp_path / "log.jsonl", [{"step": 0}, {"step": 1, "loss": 7.5}]
    whole = "".join(json.dumps(row) + "\n" for row in rows).encode()
    for limit, amended in ((len(whole) + 5, rows[1]), (1000, rows[1] | {"val_loss": 6.5, "val_n": 3})):
        log.write_bytes(whole)
        file = RowFile(log, 2)
        with no_file_may_grow(limit):
            file.extend_last({"val_loss": 6.5, "val_n": 3})
        file.close()
        assert [json.loads(line) for line in log.read_text().splitlines()] == [rows[0], amended]
        assert ("it lacks the last validation" in capsys.readouterr().out) == (amended == rows[1])
    for start, content in ((2, log.read_bytes()), (5, whole), (0, b"")):  # it has one; it is another row; there is none
        log.write_bytes(content)
        file = RowFile(log, start)
        file.extend_last({"val_loss": 1.0})
        file.close()
        assert log.read_bytes() == content
