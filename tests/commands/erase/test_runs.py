"""Runs and exports, found by their files."""

from jaxgpt.commands.erase.runs import find, reads_file
from tests.support.run_folders import write_run


def test_runs_and_exports_are_found_below_folders_and_nowhere_else(tmp_path):
    for place in ("runs/a", "runs/sweep/b", ".hidden/c", "venv/d", "runs/a/checkpoints/e"):
        write_run(tmp_path / place, [])
    (tmp_path / "venv" / "pyvenv.cfg").touch()
    (tmp_path / "hf").mkdir()
    for name in ("config.json", "model.safetensors"):
        (tmp_path / "hf" / name).write_text("{}")
    runs, exports = find([tmp_path, tmp_path / "runs"])
    assert [run.relative_to(tmp_path).as_posix() for run in runs] == ["runs/a", "runs/sweep/b"]
    assert exports == [tmp_path / "hf"]


def test_a_run_that_reads_a_file_names_it(tmp_path):
    (tmp_path / "a.jsonl").touch()
    (tmp_path / "b.txt").touch()
    flags = {"x": {"data": "a.jsonl"}, "y": {"mix": "b.txt=1,a.jsonl[:-0.1]=2"}, "z": {"data": "b.txt"}}
    flags["v"] = {"data": "b.txt", "val_also": "old=a.jsonl[-0.1:]"}
    for name, each in flags.items():
        write_run(tmp_path / name, [], **each | {"cwd": str(tmp_path)})
    assert [reads_file(tmp_path / name, tmp_path / "a.jsonl") for name in "xyzv"] == [True, True, False, True]
