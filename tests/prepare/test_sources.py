import gzip
import io
import os
import sys
import threading
from pathlib import Path

import pytest

from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import sources


def test_folders_and_their_errors(tmp_path):
    for name in ("b.txt", "a.md", "code.py", "sub/c.JSONL", "x.jpg", "d.txt.gz", "e.ndjson"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(gzip.compress(b"x") if name.endswith("gz") else b'{"text": "x"}')
    names = [unit.name.removeprefix(f"{tmp_path}/") for unit in sources.plan_pieces([str(tmp_path)])[0]]
    assert names == ["a.md", "b.txt", "d.txt.gz", "e.ndjson", "sub/c.JSONL"]
    ((unit,),) = sources.plan_pieces([str(tmp_path)], ["*.py"])
    assert (Path(unit.name).name, unit.kind) == ("code.py", "text")
    for name, patterns, message in (
        (tmp_path / "no", (), "no such file or folder"),
        (tmp_path, ["*.c"], r"7 files, none of which is \*\.c"),
    ):
        with pytest.raises(UsageError, match=f"^{name}: .*{message}"):
            sources.plan_pieces([str(name)], patterns)
    kinds = {unit.kind for unit in sources.plan_pieces([f"{tmp_path}/e.ndjson", f"{tmp_path}/sub/c.JSONL"])[0]}
    assert kinds == {"jsonl"}
    (tmp_path / "f.json").touch()
    with pytest.raises(DataError, match=r"f.json: JSON must have one object a line"):  # and is not learned as a text
        sources.plan_pieces([f"{tmp_path}/f.json"])


def test_pieces_depend_only_on_the_input(tmp_path):
    for i in range(30):
        (tmp_path / f"{i:02}.txt").write_text("x" * 500_000)
    pieces = sources.plan_pieces([str(tmp_path)])
    assert [len(piece) for piece in pieces] == [8, 8, 8, 6]
    assert all(sum(unit.size for unit in piece) <= sources.PIECE_BYTES for piece in pieces)


def names_in(folder, *patterns):
    units = [unit for piece in sources.plan_pieces([str(folder)], patterns) for unit in piece]
    return [unit.name.removeprefix(f"{folder}/") for unit in units]


def test_links_are_followed_and_each_folder_is_read_once(tmp_path):
    for name in ("elsewhere/c.txt", "elsewhere/deep/d.txt", "raw/b/b.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    for link, to in (
        ("raw/a_link", "elsewhere"),
        ("raw/again", "elsewhere"),
        ("raw/a_link_to_b", "raw/b"),  # it is read where it is
        ("raw/b/loop", "raw"),
        ("elsewhere/deep/loop", "elsewhere"),
        ("raw/itself", "raw/itself"),
        ("raw/linked.txt", "elsewhere/c.txt"),
    ):
        (tmp_path / link).symlink_to(tmp_path / to)
    assert names_in(tmp_path / "raw") == ["a_link/c.txt", "a_link/deep/d.txt", "b/b.txt", "linked.txt"]
    (tmp_path / "linked").symlink_to(tmp_path / "elsewhere")
    assert names_in(tmp_path / "linked") == ["c.txt", "deep/d.txt"]
    (tmp_path / "raw" / "gone.txt").symlink_to(tmp_path / "nowhere.txt")
    with pytest.raises(DataError, match=r"^\S+/raw/gone\.txt: a link to nothing"):
        names_in(tmp_path / "raw")
    assert names_in(tmp_path / "raw", "[a-f].txt") == ["a_link/c.txt", "a_link/deep/d.txt", "b/b.txt"]


def test_what_is_hidden_is_left_out_unless_it_is_named(tmp_path):
    for name in ("a.txt", ".b.txt", ".git/c.txt", "sub/.ipynb_checkpoints/d.txt"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text("x")
    assert names_in(tmp_path) == names_in(tmp_path, "*") == ["a.txt"]
    assert names_in(tmp_path, "*.txt", ".b*") == [".b.txt", "a.txt"]
    assert names_in(tmp_path / ".git") == ["c.txt"]


def test_a_folder_that_can_not_be_read_is_a_one_line_error(tmp_path, monkeypatch):
    def refuse(path):
        raise PermissionError(13, "Permission denied", str(path))

    (tmp_path / "sub").mkdir()
    monkeypatch.setattr(Path, "iterdir", refuse)  # root may read all
    with pytest.raises(DataError, match=f"^{tmp_path}: Permission denied; give folders that can be read$"):
        sources.plan_pieces([str(tmp_path)])


def test_standard_input_is_saved_once_and_compared_later(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "CHUNK_BYTES", 4)

    def save(content, **options):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(content)))
        (saved,) = sources.save_streams(["-"], tmp_path / "a", **options)
        return Path(saved).name, Path(saved).read_bytes()

    assert save(b'{"text": "a"}\nrest') == ("a0.jsonl", b'{"text": "a"}\nrest')
    for same in (b'{"text": "a"}\nrest', b""):  # of a source that gives it once there is nothing left
        assert save(same) == ("a0.jsonl", b'{"text": "a"}\nrest')
    for other in (b"another", b'{"text": "a"}\nres', b'{"text": "a"}\nrest ', b'{"text": "a"}\n'):
        with pytest.raises(UsageError, match=f"^-: is not the input of the start .*, which {tmp_path}/a0.jsonl has; "):
            save(other)
    assert (tmp_path / "a0.jsonl").read_bytes() == b'{"text": "a"}\nrest'
    assert save(b"plain\n", fresh=True) == ("a0.txt", b"plain\n")
    monkeypatch.setattr(sys, "stdin", None)  # closed
    assert sources.save_streams(["-"], tmp_path / "a") == [f"{tmp_path}/a0.txt"]


def test_pipes_are_saved_by_their_kind(tmp_path):
    """As `<(...)` gives them, and with names; files stay what they are."""
    records = b'{"text": "a"}\n{"text": "b"}\n'
    read_end, write_end = os.pipe()
    os.write(write_end, records)
    os.close(write_end)
    os.mkfifo(tmp_path / "pipe.csv.gz")
    threading.Thread(target=(tmp_path / "pipe.csv.gz").write_bytes, args=[b"zipped"], daemon=True).start()
    (tmp_path / "file.txt").write_text("x")
    with (tmp_path / "file.txt").open() as file:  # in a worker, this name is another file's
        names = [f"/dev/fd/{read_end}", str(tmp_path / "pipe.csv.gz"), str(tmp_path / "file.txt"), str(tmp_path)]
        saved = sources.save_streams([*names, f"/dev/fd/{file.fileno()}"], tmp_path / "in")
    os.close(read_end)
    assert saved == [*(f"{tmp_path}/in{n}" for n in ("0.jsonl", "1.csv.gz")), *names[2:], f"{tmp_path}/in4.txt"]
    assert [Path(saved[n]).read_bytes() for n in (0, 1, 4)] == [records, b"zipped", b"x"]


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
