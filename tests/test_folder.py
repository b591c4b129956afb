import json
import os
import subprocess
import sys

import pytest

from jaxgpt.errors import TryAgainError, UsageError
from jaxgpt.folder import open_run, start_over, write_config

HOLD = """
import sys
from pathlib import Path
from jaxgpt.folder import open_run
with open_run(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_one_run_at_a_time(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"another run is at work there .process {holder.pid} on .*choose another --out"
        with pytest.raises(TryAgainError, match=message), open_run(tmp_path / "out"):
            pass
        holder.kill()  # however it ends, the system lets go of the lock
    for _ in range(2):
        with open_run(tmp_path / "out"):
            assert (tmp_path / "out" / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_fresh_deletes_the_run_and_nothing_else(tmp_path):
    elsewhere, out = tmp_path / "big disk", tmp_path / "out"
    (elsewhere / "3").mkdir(parents=True)
    out.mkdir()
    (out / "checkpoints").symlink_to(elsewhere)  # as where the run folder is on a small disk
    (out / "log.jsonl").write_text("rows")
    (out / "mine.txt").write_text("kept")
    with pytest.raises(UsageError, match="not a run of ours"):
        start_over(out)
    assert (elsewhere / "3").exists() and (out / "log.jsonl").read_text() == "rows"
    (out / "config.json").write_text("{}")
    assert start_over(out) and not start_over(out)
    assert list(elsewhere.iterdir()) == [] and (out / "log.jsonl").read_text() == ""
    assert (out / "mine.txt").read_text() == "kept" and (out / "checkpoints").is_symlink()


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(UsageError, match=r"--out .*: Not a directory; choose"), open_run(out):
        pass
    (tmp_path / "out" / "config.json").mkdir(parents=True)
    with pytest.raises(UsageError, match="choose a folder that can be written"):
        write_config(tmp_path / "out", {})


def test_the_config_has_the_facts_and_the_versions(tmp_path):
    write_config(tmp_path, {"lr": 0.1, "out": tmp_path})
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content["lr"], content["out"]) == (0.1, str(tmp_path))
    assert {"python", "jax", "flax", "optax", "orbax-checkpoint"} <= content["versions"].keys()
    assert not list(tmp_path.glob(".config*"))
