"""What marks a task as done, and what a preparation that was interrupted makes of it."""

import contextlib
import hashlib
import json
import os
import random
import shutil
from pathlib import Path

import pytest
from datatrove.pipeline.base import PipelineStep
from datatrove.pipeline.dedup.minhash import MinhashConfig

from jaxgpt.data import shards
from jaxgpt.prepare import completion, dedup, executors, pipeline, slurm, sources, tokenize
from jaxgpt.prepare.config import PrepareConfig
from tests.support import power
from tests.support.trees import snapshot


@contextlib.contextmanager
def no_progress(stage, tasks):
    yield lambda done: None


def prepare(config):
    return pipeline.prepare(config, "", lambda label, text: None, no_progress)


class WriteRank(PipelineStep):
    type, name = "TEST", "write-rank"

    def __init__(self, folder):
        super().__init__()
        self.folder = folder

    def run(self, data=None, rank=0, world_size=1):
        (self.folder / f"{rank}").write_text(f"{rank}")


def made(out):
    """The bytes of all files, but for the lock's."""
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()} | {".lock": b""}


@pytest.fixture
def config(tmp_path, write, monkeypatch):
    """Of 60 documents in three pieces, each of which has copies and near copies of the others; two buckets."""
    monkeypatch.setattr(sources, "PIECE_BYTES", 4000)
    monkeypatch.setattr(dedup, "MINHASH", MinhashConfig(5, 2, 8, norm_config=dedup.SIMPLIFIED))
    records = []
    for number in range(60):
        words = random.Random(number % 23).choices([f"word{n}" for n in range(500)], k=30)
        records.append({"text": " ".join([*words, "end" if number % 7 else "ends"])})
    (tmp_path / "disk").mkdir()
    path = write("text.jsonl", records)
    return PrepareConfig((path,), tmp_path / "disk" / "out", dedup="minhash", canaries=2, workers=1, val=0.2)


@pytest.fixture
def half(config, monkeypatch):
    """A preparation that was stopped when all tasks were done; returns what an undisturbed one makes."""
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(tokenize, "collect", lambda *_: exec("raise KeyboardInterrupt"))
        prepare(config)
    kept = config.out.with_name("kept")
    shutil.copytree(config.out, kept)
    prepare(config)
    whole = made(config.out)
    shutil.rmtree(config.out)
    kept.rename(config.out)
    return whole


def test_a_mark_has_all_that_its_task_wrote(config, half):
    work, marked = config.out / "work", {}
    for mark in (work / "stages").glob("*/completions/*"):
        marked |= json.loads(mark.read_text())
    others = ("asked.json", "workers", "pieces", "logs", "completions")
    files = [path for path in work.rglob("*") if path.is_file() and not set(others) & set(path.relative_to(work).parts)]
    assert len(files) > 50 and marked == {
        str(path.relative_to(work)): [len(path.read_bytes()), hashlib.sha256(path.read_bytes()).hexdigest()]
        for path in files
    }


@pytest.mark.parametrize("executor", [executors.Tasks, executors.RayTasks, slurm.JobArray])
def test_every_executor_marks_tasks_by_what_they_wrote(executor):
    assert executor.mark_rank_as_completed is completion.MarksTasks.mark_rank_as_completed
    assert executor._run_for_rank is executors.RedactErrors._run_for_rank


def test_a_mark_has_the_files_of_a_folder_whose_path_goes_up(tmp_path, monkeypatch):
    """And it stays: work/stages/NAME as the real folder is."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    work = Path("..", "out", "work")
    (work / "texts").mkdir(parents=True)
    with executors.local(1, tmp_path / "lock") as run:
        run([WriteRank(work / "texts")], 1, work / "stages" / "only", lambda done: None)
    mark = work / "stages" / "only" / "completions" / "00000"
    assert json.loads(mark.read_text())["texts/0"] == [1, hashlib.sha256(b"0").hexdigest()]
    completion.delete_false_marks(work)
    assert mark.exists()


def test_a_task_whose_files_are_damaged_is_done_again(config, half):
    """All files of a stage are emptied, as after a power cut: the result is that of an undisturbed preparation."""
    kept = shutil.copytree(config.out, config.out.with_name("kept"))
    for stage in ("clean", "exact", "signatures", "buckets", "clusters", "tokenise", "index", "index-near"):
        shutil.rmtree(config.out)
        shutil.copytree(kept, config.out)
        for mark in (config.out / "work" / "stages" / stage / "completions").iterdir():
            for name in json.loads(mark.read_text()):
                os.truncate(config.out / "work" / name, 0)
        prepare(config)
        assert made(config.out) == half, stage


@pytest.mark.slow
def test_after_power_cuts_a_preparation_resumes_to_the_same_bytes(config, half, tmp_path):
    """20 of them, at random moments: only what was synced is sure to survive."""
    draw, cuts, useful = random.Random(0), 0, 0
    inputs = snapshot(tmp_path / "text.jsonl")
    while cuts < 20:
        shutil.rmtree(tmp_path / "disk")
        (tmp_path / "disk").mkdir()
        disk = power.Disk(tmp_path / "store")
        disk.sync_all(tmp_path / "disk")
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, "fsync", disk.sync)
            while power.cut(tmp_path / "disk", disk, draw, draw.randrange(650), lambda: prepare(config)):
                cuts += 1
                useful += any(config.out.glob("work/stages/*/completions/*"))
            disk.cut_power(tmp_path / "disk", draw)  # just after its end
            assert prepare(config) is None
        assert made(config.out) == half and shards.verify(config.out)
    assert useful > 5 and snapshot(tmp_path / "text.jsonl") == inputs
