"""--work-dir: the cleaned text is there alone, is found again by the next start, and is gone at the end."""

import dataclasses
import json
import os
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest

from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import pipeline, work_dir
from jaxgpt.prepare.config import PrepareConfig
from tests.prepare.test_pipeline import Log
from tests.support.trees import snapshot

ROOT = Path(__file__).parents[2]


@pytest.fixture
def config(tmp_path, write):
    """Of 20 documents, one of them twice; in a work folder of its own."""
    path = write("text.jsonl", [{"text": f"Document {n % 19} has {n % 19 + 7} words or so."} for n in range(20)])
    (tmp_path / "tmpfs").mkdir()
    return PrepareConfig(inputs=(path,), out=tmp_path / "out", workers=1, val=0, work_dir=tmp_path / "tmpfs")


def prepare(config):
    log = Log()
    report = pipeline.prepare(config, "prepare ...", log.say, log.progress)
    return report, log


def interrupt(config, monkeypatch):
    """Stop a preparation when its tokens are to be joined."""

    def stop(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(pipeline.tokenize, "collect", stop)
        with pytest.raises(KeyboardInterrupt):
            prepare(config)


def shards_of(out):
    return {path.name: path.read_bytes() for path in out.glob("*.bin")}


def test_what_is_made_is_the_same_and_no_temporary_file_stays(config, tmp_path):
    report, log = prepare(config)
    elsewhere = dataclasses.replace(config, out=tmp_path / "usual", work_dir=None)
    assert prepare(elsewhere)[0] == report and shards_of(config.out) == shards_of(tmp_path / "usual")
    assert [*(tmp_path / "tmpfs").iterdir()] == [] and not (config.out / "work").exists()
    place = work_dir.locate(config.out, config.work_dir)
    assert re.fullmatch(r"jaxgpt-[0-9a-f]{16}", place.name) and str(place) in log.said["work"]
    assert "work_dir" not in json.loads((config.out / "meta.json").read_text())["flags"]
    assert prepare(dataclasses.replace(config, work_dir=None))[0] is None


def test_cleaned_text_is_in_the_work_folder_alone_and_is_found_again(config, tmp_path, monkeypatch):
    interrupt(config, monkeypatch)
    place = work_dir.locate(config.out, config.work_dir)
    names = {path.name for path in config.out.rglob("*") if path.is_file()}
    assert names == {".lock", "workers", "asked.json", "elsewhere.json"}
    assert (place / "documents").is_dir() and place.stat().st_mode & 0o777 == 0o700
    report, log = prepare(config)
    assert report["kept"]["documents"] == 19 and "checks what finished tasks wrote" in log.said["resume"]
    assert all(done == 0 for done, _ in log.done.values())  # nothing was done again
    assert [*(tmp_path / "tmpfs").iterdir()] == []


def test_another_place_is_refused_until_fresh_deletes_the_first(config, tmp_path, monkeypatch):
    interrupt(config, monkeypatch)
    (tmp_path / "other").mkdir()
    before = snapshot(tmp_path)
    for changed in (None, tmp_path / "other"):
        with pytest.raises(
            UsageError, match=rf"half prepared already, .*; resume --work-dir {tmp_path}/tmpfs, or --fr"
        ):
            prepare(dataclasses.replace(config, work_dir=changed))
        assert snapshot(tmp_path) == before
    assert prepare(dataclasses.replace(config, work_dir=tmp_path / "other", fresh=True))[0]
    assert [*(tmp_path / "tmpfs").iterdir()] == [*(tmp_path / "other").iterdir()] == []


def test_one_that_began_in_its_own_folder_is_not_continued_elsewhere(config, tmp_path, monkeypatch):
    usual = dataclasses.replace(config, work_dir=None)
    interrupt(usual, monkeypatch)
    with pytest.raises(UsageError, match=r"half prepared already, .*; resume without --work-dir, or --fresh"):
        prepare(config)
    assert prepare(dataclasses.replace(config, fresh=True))[0]
    assert not (config.out / "work").exists() and [*(tmp_path / "tmpfs").iterdir()] == []


def test_where_memory_was_lost_all_begins_anew(config, tmp_path, monkeypatch):
    interrupt(config, monkeypatch)
    work_dir.delete_place(work_dir.locate(config.out, config.work_dir))
    report, log = prepare(config)
    assert report["kept"]["documents"] == 19 and "resume" not in log.said


def test_what_leaves_nothing_leaves_no_text(config, tmp_path):
    with pytest.raises(DataError, match="no document is left"):
        prepare(dataclasses.replace(config, min_chars=10_000))
    assert [path for path in (tmp_path / "tmpfs").rglob("*") if path.is_file()] == []


KILLED = """
import os, sys
from jaxgpt import commands
from jaxgpt.prepare import {module}

def stop(*arguments, **options):
    if {when}:
        os.kill(os.getpid(), 9)
    return real(*arguments, **options)

real, {module}.{function} = {module}.{function}, stop
commands.main(sys.argv[1:])
"""
DONE = "(arguments[0].parent / 'meta.json').exists()"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("module", "function", "when"), [("tokenize", "collect", "True"), ("work_dir", "delete_elsewhere", DONE)]
)
def test_after_a_kill_the_same_command_ends_it_and_deletes_the_text(config, module, function, when):
    """Before the tokens are joined, and when all is done but the deletion."""
    words = ["prepare", *config.inputs, "--out", config.out, "--work-dir", config.work_dir, "--workers", "1"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    code = KILLED.format(module=module, function=function, when=when)
    for start, expected in ([sys.executable, "-c", code], -9), ([sys.executable, "-m", "jaxgpt"], 0):
        done = subprocess.run([*start, *words], env=environment, capture_output=True, text=True, timeout=120)
        assert done.returncode == expected, done.stderr
        assert bool([*config.work_dir.iterdir()]) == (expected != 0)
    assert shards_of(config.out) and not (config.out / "work").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda config, place: {"work_dir": place / "nowhere"},
            "nowhere: no folder that can be written; make it",
        ),
        (lambda config, place: {"work_dir": Path(config.inputs[0])}, "no folder that can be written"),
        (lambda config, place: {"inputs": (str(config.work_dir),)}, "--work-dir .* overlaps with the input"),
        (lambda config, place: place.write_text(""), "is no folder of yours alone"),
        (lambda config, place: place.symlink_to(config.work_dir), "is no folder of yours alone"),
        (lambda config, place: place.mkdir(mode=0o755), "is no folder of yours alone"),
        (
            lambda config, place: place.mkdir(mode=0o700) or (place / "x").touch(),
            "no preparation has written",
        ),
    ],
)
def test_a_place_that_is_not_ours_alone_is_refused_and_untouched(config, tmp_path, change, message):
    changed = change(config, work_dir.locate(config.out, config.work_dir))
    config = dataclasses.replace(config, **changed) if isinstance(changed, dict) else config
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=message) as refusal:
        prepare(config)
    assert "\n" not in str(refusal.value) and snapshot(tmp_path) == before


def test_too_little_room_is_found_before_anything_is_written(config, tmp_path, monkeypatch):
    monkeypatch.setattr(work_dir.shutil, "disk_usage", lambda path: types.SimpleNamespace(free=10))
    with pytest.raises(
        UsageError, match=r"--work-dir .*tmpfs: has 0 MB free, and the input has 0, .*choose a larger one"
    ):
        prepare(config)
    assert [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in (".lock", "text.jsonl")] == [
        path for path in tmp_path.rglob("workers")
    ]


def test_a_pointer_that_names_another_folder_deletes_nothing(config, tmp_path):
    """Of a prepared folder from elsewhere."""
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "text").touch()
    (tmp_path / "jaxgpt-0123456789abcdef").mkdir()
    (tmp_path / "jaxgpt-0123456789abcdef" / "text").touch()
    work = config.out / "work"
    work.mkdir(parents=True)
    for name in ("mine", "jaxgpt-0123456789abcdef"):
        (work / work_dir.POINTER).write_text(json.dumps({"work": str(tmp_path / name)}))
        work_dir.delete_elsewhere(work)
        assert (tmp_path / name / "text").exists()
