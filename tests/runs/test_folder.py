import functools
import itertools
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.runs.folder import (
    CONFIG_KEYS,
    RunLock,
    find_old_run,
    parse_row,
    require_run_folder,
    split_checkpoint,
    start_over,
    write_config,
)
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.resume import load_run_config
from tests.support.trees import snapshot

HOLD = """
import sys
from pathlib import Path
from jaxgpt.runs.folder import RunLock
with RunLock(Path(sys.argv[1])) as lock:
    lock.make()
    print("held", flush=True)
    sys.stdin.read()
"""

START = {"step": 0, "B": 4, "T": 32, "accumulate": 1, "dtype": "float32", "fingerprint": "f00d"}


def test_one_run_at_a_time(tmp_path):
    command = [sys.executable, "-c", HOLD, str(tmp_path / "out")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        message = f"in use by another command .process {holder.pid} on .*wait for it or use another folder"
        with pytest.raises(RetryableError, match=message), RunLock(tmp_path / "out"):
            pass
        holder.kill()  # however it ends, the system lets go of the lock
    for _ in range(2):
        with RunLock(tmp_path / "out") as lock:
            lock.make()
            assert (tmp_path / "out" / ".lock").read_text().startswith(f"process {os.getpid()} on ")


def test_a_path_that_is_not_utf8_is_refused_before_anything_is_made(tmp_path, monkeypatch):
    """As in a locale that is not UTF-8, where Python has surrogates for a path's bytes: orbax can't save there."""
    folder = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xfc"))
    for use in (RunLock, require_run_folder):
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


def test_a_run_that_began_and_ended_meanwhile_is_noticed(tmp_path):
    with RunLock(tmp_path / "out") as slow:
        with RunLock(tmp_path / "out") as fast:
            fast.make()
            (tmp_path / "out" / "config.json").write_text(CONFIG)
        with pytest.raises(RetryableError, match="another run has trained there meanwhile; run the same command"):
            slow.make()


def test_a_lock_of_a_run_that_does_not_begin_leaves_no_trace(tmp_path):
    with RunLock(tmp_path / "new"):
        pass
    (tmp_path / "old").mkdir()
    (tmp_path / "old" / ".lock").write_text("process 1 on a host\n")
    before = snapshot(tmp_path)
    with RunLock(tmp_path / "old"):
        assert (tmp_path / "old" / ".lock").read_text().startswith(f"process {os.getpid()} on ")
    assert snapshot(tmp_path) == before


CONFIG = json.dumps({"B": 4, "T": 32, "steps": 9, "block_size": 32, "fingerprint": "f00d", "versions": {}})
PROGRESS = json.dumps({"step": 3, "position": 96, "tokens_seen": 96, "identity": {}})


def checkpoint(folder, progress=PROGRESS):
    (folder / "progress").mkdir(parents=True)
    (folder / "progress" / "metadata").write_text(progress)
    (folder / "state").mkdir()
    (folder / "state" / "arrays").write_bytes(b"numbers")


@pytest.mark.parametrize(
    "files, ours",
    [
        ({}, True),
        ({"config.json": CONFIG, "log.jsonl": "rows", "mine.txt": ""}, True),
        ({"config.json": "damaged", "checkpoints/3/progress/metadata": PROGRESS, "log.jsonl": "rows"}, True),
        (
            {".lock": "process 1", "log.jsonl": "", ".config.json.a-1.tmp": "", "runtime-0.log": "", ".shared-9": ""},
            True,
        ),
        ({".config.json.tmp": "{"}, True),  # as an older version left it
        ({".lock-1": "", "runtime-1.log": "", ".process-id-twice": ""}, True),  # of processes that were ended early
        ({"log.jsonl": '{"step": 0, "tokens_seen": 8}\n', "checkpoints/1.orbax-checkpoint-tmp/a": ""}, True),
        ({"samples.jsonl": '{"step": 2, "prompt": "a", "text": "b"}\n'}, True),
        ({"samples.jsonl": '{"step": 2, "text": "b"}\n'}, False),
        ({"log.jsonl": '{"step": 0, "tokens_seen": 8}\n', "tensorboard/.lock": "", "wandb/x": ""}, True),
        ({"log.jsonl": '{"step": 0}'}, False),
        ({"config.json": '{"model_type": "gpt2", "n_layer": 2}', "log.jsonl": '{"step": 0}'}, False),
        ({"config.json": "{}", "checkpoints/3/progress/metadata": PROGRESS}, False),
        ({"config.json": "[]"}, False),
        ({"checkpoints/3/progress/metadata": '{"epoch": 3}'}, False),
        ({"checkpoints/model.pt": "weights"}, False),
        ({"mine.txt": ""}, False),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_folder_is_a_runs_by_its_own_marks(tmp_path, files, ours):
    for name, content in files.items():
        (tmp_path / "out" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "out" / name).write_text(content)
    before = snapshot(tmp_path)
    if ours:
        require_run_folder(tmp_path / "out")
    else:
        with pytest.raises(
            UsageError, match=r"out: contains \S+, which is not from a jaxgpt run.*; choose a new f"
        ) as error:
            require_run_folder(tmp_path / "out")
        lacks = "run: it has no B, T, block_size, fingerprint, steps, versions; choose"
        assert (lacks in str(error.value)) == (files.get("config.json", "")[:1] == "{")
    assert snapshot(tmp_path) == before


def test_a_place_where_no_folder_can_be_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="file: is a file, not a folder"):
        require_run_folder(tmp_path / "file")
    with pytest.raises(UsageError, match="file/out: Not a directory; choose a folder that can be written"):
        require_run_folder(tmp_path / "file" / "out")


@pytest.fixture
def old(tmp_path):
    """A run on another disk, with what others and kills have left in its checkpoints/."""
    out = tmp_path / "old" / "out"
    elsewhere = tmp_path / "old" / "big disk" / "checkpoints"
    for name in ("3", "6", "1.damaged", "2.damaged++", "3 (copy)", "best", "07"):
        checkpoint(elsewhere / name)
    (elsewhere / "9").mkdir()  # emptied by a kill
    (elsewhere / "4.orbax-checkpoint-tmp" / "state").mkdir(parents=True)
    (elsewhere / "notes.txt").write_text("mine")
    (elsewhere / "link").symlink_to(elsewhere / "3 (copy)")
    (elsewhere / "5.damaged").symlink_to(elsewhere / "best")
    out.symlink_to(elsewhere.parent)
    (out / "config.json").write_text(CONFIG)
    (out / "log.jsonl").write_text("rows")
    (out / "lineage.json").write_text("{}")
    (out / "mine.txt").write_text("kept")
    return out


LEFT = ["07", "3 (copy)", "5.damaged", "best", "link", "notes.txt"]


def test_fresh_deletes_by_name_what_a_run_wrote_and_says_what_it_left(old):
    kept = {name: snapshot(old / "checkpoints" / name) for name in LEFT}
    message = f"deleted the run that was in {old}; left what no run wrote: "
    assert start_over(old) == message + "checkpoints/07, checkpoints/3 (copy), checkpoints/5.damaged, ..."
    assert {name: snapshot(old / "checkpoints" / name) for name in LEFT} == kept
    assert sorted(path.name for path in (old / "checkpoints").iterdir()) == LEFT
    assert (old / "log.jsonl").read_text() == "" and (old / "mine.txt").read_text() == "kept"
    assert not (old / "lineage.json").exists()  # another run's from now on
    assert start_over(old) == "" and old.is_symlink()


@pytest.mark.parametrize("parts", [["state"], ["state", "_CHECKPOINT_METADATA"], ["progress"], []], ids=str)
def test_fresh_deletes_what_a_kill_left_of_a_checkpoint(old, parts):
    for part in parts:
        (old / "checkpoints" / "1" / part).mkdir(parents=True)
    (old / "checkpoints" / "1").mkdir(exist_ok=True)
    start_over(old)
    assert not (old / "checkpoints" / "1").exists()


@pytest.mark.parametrize("name", ["1000", "0"])
@pytest.mark.parametrize("kind", ["json", "no json", "state", "link", "file"])
def test_fresh_refuses_another_programs_checkpoint_before_it_deletes(old, name, kind):
    path = old / "checkpoints" / name
    if kind in ("json", "no json"):
        checkpoint(path, '{"epoch": 3}')
        if kind == "no json":
            (path / "progress").rename(path / "default")
    elif kind == "state":
        (path / "state").mkdir(parents=True)
        (path / "state" / "weights").touch()
    elif kind == "link":
        path.symlink_to(old / "checkpoints" / "6")
    else:
        path.write_text("a file")
    before = snapshot(old.parent)
    for refuse in (find_old_run, start_over):
        with pytest.raises(
            UsageError, match=rf"^--fresh: {old}/checkpoints/{name} is not a jaxgpt checkpoint; move it away"
        ):
            refuse(old)
    assert snapshot(old.parent) == before


@pytest.mark.parametrize("name", [".lock", "log.jsonl", "samples.jsonl", "checkpoints", "profile", "profile/plugins"])
@pytest.mark.parametrize("exists", [True, False])
def test_a_link_in_a_run_is_refused_and_not_followed(old, name, exists):
    """A folder from elsewhere may have it; what it names is, here, another run's."""
    victim = old.parent / "other run" / "victim"
    if exists and name == "checkpoints":
        shutil.copytree(old / "checkpoints", victim, symlinks=True)
    elif exists:
        victim.parent.mkdir()
        victim.write_text("precious")
    shutil.rmtree(old / "checkpoints") if name == "checkpoints" else None
    (old / name).unlink(missing_ok=True)
    (old / name).parent.mkdir(exist_ok=True)
    (old / name).symlink_to(victim)
    before = snapshot(old.parent)
    uses = {".lock": [RunLock], "checkpoints": [require_run_folder, find_old_run, start_over]}
    for refuse in uses.get(name, [require_run_folder]):
        with pytest.raises(UsageError, match=f"^{old / name} is a symbolic link, and jaxgpt writes "):
            refuse(old)
    assert snapshot(old.parent) == before


@pytest.mark.parametrize("name", ["log.jsonl", "samples.jsonl"])
def test_a_folder_in_the_place_of_a_file_of_rows_is_refused(old, name):
    (old / name).unlink(missing_ok=True)
    (old / name).mkdir()
    with pytest.raises(UsageError, match=f"^{old / name}: is a folder, and a run writes a file there; move it away$"):
        require_run_folder(old)


@pytest.mark.parametrize("name", ["log.jsonl", "samples.jsonl"])
def test_a_file_of_rows_that_cannot_be_written_is_refused_when_the_folder_is_held(old, name):
    (old / name).unlink(missing_ok=True)
    os.mkfifo(old / name)  # nobody reads it
    with RunLock(old) as lock, pytest.raises(UsageError, match=f"{name}: .*; choose a folder that can be written"):
        lock.make()


class Killed(BaseException):
    """Stands for a kill: nothing of ours catches it."""


def test_a_kill_in_the_middle_of_fresh_is_finished_by_the_same_command(old, monkeypatch):
    """Before each of its changes to the disk in turn; the folder is still a run's then, without half a checkpoint."""
    whole = {name: snapshot(old / "checkpoints" / name) for name in ("3", "6")}
    real = {name: getattr(os, name) for name in ("rename", "rmdir", "unlink", "replace")}
    count = 0
    for limit in itertools.count():
        folder = old.parent.with_name(f"copy {limit}")
        shutil.copytree(old.parent, folder, symlinks=True)
        out, changes = folder / "out", itertools.count()
        out.unlink()
        out.symlink_to(folder / "big disk")

        def change(name, *arguments, changes=changes, limit=limit, **more):
            if next(changes) == limit:
                raise Killed
            return real[name](*arguments, **more)

        with monkeypatch.context() as patch:
            for name in real:
                patch.setattr(os, name, functools.partial(change, name))
            try:
                start_over(out)
                break
            except Killed:
                count += 1
        require_run_folder(out)
        for name, files in whole.items():
            path = out / "checkpoints" / name
            assert not path.exists() or [each[1:] for each in snapshot(path)] == [each[1:] for each in files]
        start_over(out)
        assert sorted(path.name for path in (out / "checkpoints").iterdir()) == LEFT
        shutil.rmtree(folder)
    assert count > 20


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    out = tmp_path / "file" / "out"
    with pytest.raises(UsageError, match=r"out: Not a directory; choose"), RunLock(out) as lock:
        lock.make()
    (tmp_path / "out" / "config.json").mkdir(parents=True)
    with pytest.raises(UsageError, match="choose a folder that can be written"):
        write_config(tmp_path / "out", {}, START)


def test_what_a_kill_left_of_a_config_is_deleted_when_the_folder_is_held(tmp_path):
    """By its name, of this version and an older one; a start that is refused deletes nothing."""
    kept = {".config.json.mine", "config.json.tmp", ".config.jsontmp"}
    for name in (".config.json.host-7.tmp", ".config.json.tmp", *kept):
        (tmp_path / name).touch()
    (tmp_path / "config.json").write_text(json.dumps(dict.fromkeys(CONFIG_KEYS)))
    before = snapshot(tmp_path)
    with RunLock(tmp_path) as lock:
        assert snapshot(tmp_path) == before
        lock.make()
    assert {path.name for path in tmp_path.iterdir() if not path.name.startswith(".lock")} == kept | {"config.json"}


def test_a_folder_that_was_moved_is_made_and_held_again(tmp_path):
    out = tmp_path / "out"
    with RunLock(out) as lock:
        lock.make()
        assert not lock.reacquire_if_moved()
        out.rename(tmp_path / "moved")
        assert lock.reacquire_if_moved() and not lock.reacquire_if_moved()
        done = subprocess.run([sys.executable, "-c", HOLD, str(out)], input="", capture_output=True, text=True)
        assert "in use by another command" in done.stderr
    with RunLock(out), RunLock(tmp_path / "moved"):
        pass
    with RunLock(out) as lock:
        out.rename(tmp_path / "moved again")
        out.mkdir()
        (out / "config.json").write_text("another program's")
        with pytest.raises(UsageError, match=r"contains config\.json, which is not from a jaxgpt run"):
            lock.reacquire_if_moved()
        assert [path.name for path in out.iterdir()] == ["config.json"]


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


def test_a_checkpoint_is_a_run_and_its_steps():
    assert split_checkpoint(Path("runs/a/checkpoints/70")) == (Path("runs/a"), 70)
    assert split_checkpoint(Path("checkpoints/0")) == (Path("."), 0)
    for name in ("runs/a", "runs/a/checkpoints", "runs/a/70", "runs/a/checkpoints/7.damaged", "7", "."):
        assert split_checkpoint(Path(name)) == (Path(name), None)
