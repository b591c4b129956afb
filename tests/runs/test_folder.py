import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.runs.folder import RunLock, make_empty_folder, parse_row, require_writable, start_over, write_config
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.resume import load_run_config

HOLD = """
import sys
from pathlib import Path
from jaxgpt.runs.folder import RunLock
with RunLock(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""

START = {"step": 0, "B": 4, "T": 32, "accumulate": 1, "dtype": "float32", "fingerprint": "f00d"}


def test_one_run_at_a_time(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"another run is training there .process {holder.pid} on .*wait for it or use another folder"
        with pytest.raises(RetryableError, match=message), RunLock(tmp_path / "out"):
            pass
        holder.kill()  # however it ends, the system lets go of the lock
    for _ in range(2):
        with RunLock(tmp_path / "out"):
            assert (tmp_path / "out" / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    """As in a locale that is not UTF-8, where Python has surrogates for a path's bytes: orbax can't save there."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfc"))
    for use in (RunLock, make_empty_folder):
        with pytest.raises(UsageError, match="need a path in UTF-8; set LC_ALL=C"):
            use(folder)
    assert not folder.exists()
    folder.mkdir()
    for use in (resolve_weights, load_run_config):
        with pytest.raises(UsageError, match="need a path in UTF-8"):
            use(folder)
    monkeypatch.chdir(folder)
    with pytest.raises(UsageError, match="need a path in UTF-8"):
        RunLock(Path("runs/default"))
    assert not list(folder.iterdir())


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
    with pytest.raises(UsageError, match=r"out: Not a directory; choose"), RunLock(out):
        pass
    (tmp_path / "out" / "config.json").mkdir(parents=True)
    with pytest.raises(UsageError, match="choose a folder that can be written"):
        write_config(tmp_path / "out", {}, START)


def test_a_folder_that_was_moved_is_made_and_held_again(tmp_path):
    out = tmp_path / "out"
    with RunLock(out) as lock:
        assert not lock.reacquire_if_moved()
        out.rename(tmp_path / "moved")
        assert lock.reacquire_if_moved() and not lock.reacquire_if_moved()
        assert (out / "log.jsonl").exists()
        done = subprocess.run([sys.executable, "-c", HOLD, str(out)], input="", capture_output=True, text=True)
        assert "another run is training there" in done.stderr
    with RunLock(out), RunLock(tmp_path / "moved"):
        pass


def test_the_starts_of_a_run_are_kept_but_those_that_were_done_again(tmp_path):
    for step, B in ((0, 4), (5, 8), (9, 2), (7, 1)):
        write_config(tmp_path, {"lr": 0.1}, START | {"step": step, "B": B})
    starts = json.loads((tmp_path / "config.json").read_text())["starts"]
    assert [(start["step"], start["B"]) for start in starts] == [(0, 4), (5, 8), (7, 1)]
    (tmp_path / "config.json").write_text("damaged")
    write_config(tmp_path, {"lr": 0.1}, START)
    assert json.loads((tmp_path / "config.json").read_text())["starts"] == [START]


def test_the_config_has_the_facts_and_the_versions(tmp_path):
    write_config(tmp_path, {"lr": 0.1, "out": tmp_path}, START)
    content = json.loads((tmp_path / "config.json").read_text())
    assert (content["lr"], content["out"]) == (0.1, str(tmp_path))
    assert {"python", "jax", "flax", "optax", "orbax-checkpoint"} <= content["versions"].keys()
    assert not list(tmp_path.glob(".config*"))


@pytest.mark.parametrize(
    "line", ["", "half a row", "[1]", '{"loss": 1}', '{"step": "1"}', '{"step": 1e999}', "[" * 10**5]
)
def test_what_is_no_row_of_a_log_is_none(line):
    assert parse_row(line.encode()) is None
    assert parse_row(b'{"step": 1, "loss": null}\n') == {"step": 1, "loss": None}


def test_a_file_to_be_written_is_tried_and_left_as_it_was(tmp_path):
    require_writable("--out", tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "old").write_text("kept")
    require_writable("--out", tmp_path / "old")
    assert (tmp_path / "old").read_text() == "kept"
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for path, new, message in (
        (tmp_path / "old", True, "old: exists already; choose another file"),
        (tmp_path / "link", True, "link: exists already; choose another file"),
        (tmp_path / "none" / "x", False, "none/x: No such file or directory; choose a file that can be written"),
        (tmp_path, False, "Is a directory; choose a file that can be written"),
    ):
        with pytest.raises(UsageError, match=f"^--out .*{message}$"):
            require_writable("--out", path, new)
