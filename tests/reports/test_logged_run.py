import json
import os
from pathlib import Path

import pytest

from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.reports.logged_run import load_runs, short_names
from tests.support.run_folders import make_rows, write_log, write_run


def test_runs_of_one_name_are_told_apart():
    paths = [Path("/a/x/run"), Path("/b/x/run"), Path("/b/y/run"), Path("/b/other")]
    assert short_names(paths) == ["a/x/run", "b/x/run", "y/run", "other"]
    assert short_names([Path("/a/run"), Path("/run")]) == ["a/run", "/run"]


def test_a_run_is_read_with_its_rows_and_spikes(tmp_path):
    run = write_run(tmp_path / "run")
    (loaded,) = load_runs([run])
    rows = make_rows()
    assert loaded.label == "run" and loaded.steps_done == 60 and loaded.is_done
    assert [spike.step for spike in loaded.spikes] == [45] and loaded.spikes[0].loss == rows[45]["loss"]
    assert loaded.x("step").tolist() == [*range(60)]
    assert loaded.x("tokens").tolist() == [row["tokens_seen"] for row in rows]
    assert loaded.x("time")[-1] == pytest.approx(sum(row["step_ms"] for row in rows) / 1000)
    write_log(run, rows[:30])
    assert not load_runs([run])[0].is_done
    (run / "log.jsonl").unlink()
    assert load_runs([run])[0].steps_done == 0


def test_what_is_no_run_is_refused_in_one_line(tmp_path):
    run = write_run(tmp_path / "run")
    (tmp_path / "link").symlink_to(run)
    with pytest.raises(UsageError, match=r"link is the same run as .*run; name each run once"):
        load_runs([run, tmp_path / "link"])
    (tmp_path / "empty").mkdir()
    for name in ("empty", "missing", "run/log.jsonl"):
        with pytest.raises(CheckpointError, match=r"no run that has begun; give a run folder|is a file; give a run"):
            load_runs([tmp_path / name])
    for content, problem in (("{", "can't be read"), ("[]", "no JSON object"), ("{}", "it has no B, T, block_size")):
        (run / "config.json").write_text(content)
        with pytest.raises(CheckpointError, match=problem):
            load_runs([run])
    (run / "config.json").unlink()
    os.mkfifo(run / "config.json")
    with pytest.raises(CheckpointError, match="not a regular file"):
        load_runs([run])


def test_settings_of_any_type_are_read(tmp_path):
    strange = {name: {"a": [1]} for name in ("B", "T", "steps", "fingerprint", "versions", "starts", "data", "lora")}
    run = write_run(tmp_path / "run", **json.loads(json.dumps(strange)))
    assert not load_runs([run])[0].is_done
