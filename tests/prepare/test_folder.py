"""A prepared folder while it is made: what is ours, and what is deleted. Whole commands are in tests/commands."""

import json
import os

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.prepare.folder import (
    delete_old_files,
    delete_unfinished_files,
    delete_work,
    require_prepared_or_empty,
    require_separate_inputs,
    reset,
)
from tests.support.trees import snapshot

META = json.dumps({"format": "jaxgpt-tokens"})


@pytest.mark.parametrize(
    "files, complaint",
    [
        ({}, ""),
        ({".lock": "process 1"}, ""),
        ({"meta.json": META, "mine.txt": ""}, ""),
        ({"work/workers": "", "work/stages/x": "", "train_000000.bin": ""}, ""),
        ({"work/": ""}, ""),  # killed before the mark was made
        ({"meta.json": "{", "work/workers": ""}, ""),
        ({"mine.txt": ""}, "out: there are files in it already; choose a new folder"),
        ({"mine.txt": "", "work/": ""}, "out: there are files in it already; choose a new folder"),
        ({"work/draft.txt": ""}, "out: there are files in it already; choose a new folder"),
        ({"meta.json": '{"format": "x"}', "work/workers": ""}, "out: there are files in it already"),
        ({"meta.json": "[]"}, "out: there are files in it already"),
        ({"meta.json": "{"}, "out: there are files in it already"),
        ({"meta.json": META, "work/draft.txt": ""}, "out/work: no preparation has written this; move it away, or"),
        ({"meta.json": META, "work": ""}, "out/work: no preparation has written this; move it away, or"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, dict) else "",
)
def test_a_folder_is_ours_by_its_own_marks(tmp_path, files, complaint):
    for name, content in files.items():
        path = tmp_path / "out" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.mkdir() if name.endswith("/") else path.write_text(content)
    before = snapshot(tmp_path)
    if complaint:
        with pytest.raises(UsageError, match=complaint):
            require_prepared_or_empty(tmp_path / "out")
    else:
        require_prepared_or_empty(tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_a_new_start_deletes_what_a_preparation_wrote_and_nothing_else(tmp_path):
    ours = ["meta.json", "train_000000.bin", "val_000012.bin", "report.json", "report.html", "dropped.jsonl"]
    ours += ["canaries.json", "index/exact/a.index", "index/near/bucket/b.index", "work/stages/log", "work/read/0.json"]
    unfinished = [".train_000001.bin.12.tmp", ".meta.json.host-12.tmp", ".report.json.host-12.tmp"]
    unfinished += [".dropped.jsonl.host-12.tmp", ".canaries.json.host-12.tmp"]
    others = ["train_mine.bin", "report.docx", "index/notes.txt", "mine/report.json", ".mine.tmp", "work/leaks/x"]
    for name in [*ours, *unfinished, *others]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    (tmp_path / "work" / "workers").touch()
    delete_old_files(tmp_path, tmp_path / "work")
    delete_unfinished_files(tmp_path)
    left = [str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == sorted([*others, "work/workers"])
    reset(tmp_path / "work")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["workers"]
    delete_work(tmp_path / "work")
    delete_work(tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_a_link_among_them_is_deleted_and_not_what_it_names(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_text("kept")
    (tmp_path / "out" / "index").mkdir(parents=True)
    (tmp_path / "out" / "work").mkdir()
    for link in ("report.html", "index/exact", "work/stages"):
        (tmp_path / "out" / link).symlink_to(tmp_path / "disk")
    delete_old_files(tmp_path / "out", tmp_path / "out" / "work")
    delete_work(tmp_path / "out" / "work")
    assert os.listdir(tmp_path / "out") == [] and (tmp_path / "disk" / "file").read_text() == "kept"


@pytest.mark.parametrize("link", ["work", "work/stages", "work/stages/clean/logs", "index", "index/exact/a.index"])
@pytest.mark.parametrize("to", ["disk", "disk/file", "nowhere"])
def test_a_link_where_libraries_write_is_refused(tmp_path, link, to):
    (tmp_path / "disk").mkdir()
    (tmp_path / "disk" / "file").write_text("kept")
    (tmp_path / "out" / link).parent.mkdir(parents=True)
    (tmp_path / "out" / "meta.json").write_text(META)
    (tmp_path / "out" / link).symlink_to(tmp_path / to)
    before = snapshot(tmp_path)
    with pytest.raises(UsageError, match=f"out/{link} is a symbolic link, and jaxgpt writes through"):
        require_prepared_or_empty(tmp_path / "out")
    assert snapshot(tmp_path) == before


def test_an_input_is_apart_from_the_output(tmp_path):
    (tmp_path / "in" / "deep").mkdir(parents=True)
    (tmp_path / "in" / "a.txt").write_text("text")
    file, folder = str(tmp_path / "in" / "a.txt"), str(tmp_path / "in")
    require_separate_inputs(PrepareConfig((file, "-", "hf://a/b"), tmp_path / "in" / "deep"))
    for config, flag in (
        (PrepareConfig((folder,), tmp_path / "in" / "deep"), "the input"),
        (PrepareConfig((file,), tmp_path / "in"), "the input"),
        (PrepareConfig(("-",), tmp_path / "in", against=tmp_path / "in" / "deep"), "--against"),
        (PrepareConfig(("-",), tmp_path / "in", decontaminate=(tmp_path / "in" / "a.txt",)), "--decontaminate"),
    ):
        with pytest.raises(UsageError, match=f"^--out .* overlaps with {flag} .*, which must stay; choose another"):
            require_separate_inputs(config)
