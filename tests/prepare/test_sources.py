import gzip
import io
from pathlib import Path

import pytest

from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import sources


def test_folders_and_their_errors(tmp_path):
    for name in ("b.txt", "a.md", "code.py", "sub/c.JSONL", "x.jpg", "d.txt.gz"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"x") if name.endswith("gz") else b'{"text": "x"}')
    names = [unit.name.removeprefix(f"{tmp_path}/") for unit in sources.plan_pieces([str(tmp_path)])[0]]
    assert names == ["a.md", "b.txt", "d.txt.gz", "sub/c.JSONL"]
    ((unit,),) = sources.plan_pieces([str(tmp_path)], ["*.py"])
    assert (Path(unit.name).name, unit.kind) == ("code.py", "text")
    for name, patterns, message in (
        (tmp_path / "no", (), "no such file or folder"),
        (tmp_path, ["*.c"], r"6 files, and none is \*\.c"),
    ):
        with pytest.raises(UsageError, match=f"^{name}: .*{message}"):
            sources.plan_pieces([str(name)], patterns)


def test_pieces_depend_only_on_the_input(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02}.txt").write_text("x" * 500_000)
    pieces = sources.plan_pieces([str(tmp_path)])
    assert [len(piece) for piece in pieces] == [8, 8, 8, 6]
    assert all(sum(unit.size for unit in piece) <= sources.PIECE_BYTES for piece in pieces)


def test_standard_input_is_saved_once(tmp_path):
    assert sources.save_stdin(tmp_path, io.BytesIO(b'{"text": "a"}\nrest')).name == "stdin.jsonl"
    assert (
        sources.save_stdin(tmp_path, io.BytesIO(b"another")).read_bytes() == b'{"text": "a"}\nrest'
    )  # of an earlier start
    (tmp_path / "b").mkdir()
    assert sources.save_stdin(tmp_path / "b", io.BytesIO(b"plain\n")).name == "stdin.txt"


def test_a_missing_dataset_is_a_one_line_error(monkeypatch):
    from huggingface_hub.utils import _http

    monkeypatch.setattr(_http.time, "sleep", lambda seconds: None)  # between its attempts
    with pytest.raises(DataError, match=r"hf://nobody/nothing: .*; check the name and the network") as error:
        sources.plan_pieces(["hf://nobody/nothing"])
    assert "\n" not in str(error.value)


def test_there_are_never_more_pieces_than_files_can_be_open(tmp_path):
    for i in range(1000):
        with (tmp_path / f"{i}.txt.gz").open("wb") as file:
            file.truncate(40 << 20)  # of nothing, which takes no room
    pieces = sources.plan_pieces([str(tmp_path)])
    assert 200 < len(pieces) <= 900 and sum(map(len, pieces)) == 1000
