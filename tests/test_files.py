"""What commands write: refusals that leave no trace, outputs that are inputs, and files that are whole."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.files import (
    is_path,
    new_file,
    new_folder,
    owner_only,
    require_empty,
    require_new,
    require_separate,
    require_writable,
    write_whole,
)
from tests.support.limits import no_file_may_grow
from tests.support.trees import snapshot


def test_a_file_to_be_written_is_tried_without_a_trace(tmp_path):
    (tmp_path / "old").write_text("kept")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    before = snapshot(tmp_path)
    require_writable("--out", tmp_path / "new")
    require_writable("--out", tmp_path / "old")
    require_writable("--out", Path("/dev/null"))
    for path, message in (
        (tmp_path / "link", "link: No such file or directory; choose a file that can be written"),
        (tmp_path / "none" / "x", "none/x: No such file or directory; choose a file that can be written"),
        (tmp_path / "old" / "x", "old/x: Not a directory; choose a file that can be written"),
        (tmp_path, "Is a directory; choose a file that can be written"),
    ):
        with pytest.raises(UsageError, match=f"^--out .*{message}$"):
            require_writable("--out", path)
    assert snapshot(tmp_path) == before


def test_a_file_with_something_in_it_is_not_new(tmp_path):
    """By whatever name; mktemp makes an empty one, and what is no regular file loses nothing."""
    (tmp_path / "old").write_text("mine")
    (tmp_path / "link").symlink_to("old")
    (tmp_path / "empty").touch()
    for name in ("new", "empty", "/dev/null"):
        require_new("--json", tmp_path / name)
    write_whole(tmp_path / "empty", "result", new=True)
    for name in ("old", "link", "empty"):
        with pytest.raises(UsageError, match=f"^--json .*/{name}: exists already; choose another file$"):
            require_new("--json", tmp_path / name)
    assert (tmp_path / "old").read_text() == "mine" and (tmp_path / "empty").read_text() == "result"


def test_a_folder_for_new_files_is_empty(tmp_path):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "mine.txt").touch()
    before = snapshot(tmp_path)
    require_empty(tmp_path / "a" / "new")
    for path, message in (
        (tmp_path / "used", "there are files in it already; choose a new folder"),
        (tmp_path / "used" / "mine.txt", "is a file, not a folder; choose a new folder"),
        (tmp_path / "used" / "mine.txt" / "new", "Not a directory; choose a folder that can be written"),
    ):
        with pytest.raises(UsageError, match=f"^{path}: {message}$"):
            require_empty(path)
    assert snapshot(tmp_path) == before


@pytest.fixture
def names(tmp_path, monkeypatch):
    """Other names of a file `data.txt` and of a folder `data`, which has a part.bin, in the current folder."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data" / "index").mkdir(parents=True)
    (tmp_path / "data" / "part.bin").write_bytes(b"tokens")
    (tmp_path / "data" / "result.json").write_text("{}")
    (tmp_path / "data.txt").write_text("text")
    (tmp_path / "x").mkdir()
    for name in ("data", "data.txt"):
        (tmp_path / f"link to {name}").symlink_to(name)
        (tmp_path / "x" / f"link to {name}").symlink_to(tmp_path / f"link to {name}")
    os.link("data.txt", "hard")
    os.link("data/part.bin", "hard.bin")
    (tmp_path / "link").symlink_to(tmp_path)


SPELLINGS = "{0}", "./{0}", "x/../{0}", "link/{0}", "link to {0}", "x/link to {0}", "{here}/{0}"


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_an_output_is_an_input_under_any_name(names, spelling):
    def refused(output, value, **more):
        try:
            require_separate("--json", Path(output), [("--val", None), ("--data", value)], **more)
        except UsageError as error:
            assert str(error).startswith(f"--json {Path(output)} ") and "--data " in str(error)
            assert str(error).endswith(", which must stay; choose another --json")
            return True
        return False

    here = os.getcwd()
    file, folder = spelling.format("data.txt", here=here), spelling.format("data", here=here)
    assert refused(file, "data.txt") and refused("data.txt", file) and refused(file, "hard") and refused("hard", file)
    assert refused(f"{folder}/part.bin", "data") and refused("hard.bin", folder) and refused(folder, "data/part.bin")
    assert refused(f"{folder}/index/new", "data") and refused(folder, "data") and refused("data", folder)
    assert not refused(f"{folder}/new.json", "data") and not refused("new", folder) and not refused("new", file)
    assert refused(f"{folder}/new", "data", nested=False) and refused(f"{folder}/result.json", "data")
    assert not refused(f"{folder}/result.json", "data", rewrites=lambda path: path.name == "result.json")
    Path("data/report.html").symlink_to("../x/precious")  # not the user's spelling: it came with the folder
    assert refused(f"{folder}/report.html", "data", rewrites=lambda path: True)
    assert refused(folder, "data/part.bin", parts=("part.bin",)) and not refused("data", "data/part.bin", parts=("x",))
    assert not refused(f"{folder}/new", "gpt2") and not refused(file, "0.1")


def test_a_checkpoint_is_a_part_of_its_run(tmp_path):
    (tmp_path / "run" / "checkpoints" / "300").mkdir(parents=True)
    (tmp_path / "run" / "config.json").touch()
    model = [("MODEL", tmp_path / "run" / "checkpoints" / "300")]
    for output in ("config.json", "checkpoints/400", "checkpoints/300/x", "checkpoints"):
        with pytest.raises(UsageError, match="which must stay"):
            require_separate("--json", tmp_path / "run" / output, model)
    require_separate("--json", tmp_path / "run" / "result.json", model)


def test_a_file_is_written_whole(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "real").chmod(0o640)
    (tmp_path / "link").symlink_to("real")
    write_whole(tmp_path / "link", "new")
    assert (tmp_path / "real").read_text() == "new" and (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").stat().st_mode & 0o777 == 0o640
    write_whole(Path("/dev/null"), "nothing")
    write_whole(tmp_path / "first", "first", new=True)
    with pytest.raises(FileExistsError):
        write_whole(tmp_path / "first", "second", new=True)
    assert (tmp_path / "first").read_text() == "first"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["first", "link", "real"]


def test_a_file_in_a_folder_of_ours_takes_the_place_of_a_link(tmp_path):
    (tmp_path / "precious").write_text("mine")
    (tmp_path / "out").mkdir()
    path = tmp_path / "out" / "file"
    path.symlink_to("../precious")
    with new_file(path) as temporary:
        temporary.touch()
    temporary.symlink_to("../precious")  # whoever knows our number
    path.unlink()
    path.symlink_to("../precious")
    with new_file(path) as temporary:
        temporary.write_text("ours")
    assert path.read_text() == "ours" and not path.is_symlink()
    assert (tmp_path / "precious").read_text() == "mine"


def test_a_folder_is_there_when_it_is_full(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("out", "link"):
        with new_folder(tmp_path / name, ["file"]) as new:
            (new / "file").write_text("content")
            assert not (tmp_path / name / "file").exists()
        assert [path.name for path in (tmp_path / name).iterdir()] == ["file"]
        with new_folder(tmp_path / name, ["file"]) as new:
            (new / "file").write_text("content")
        with pytest.raises(UsageError, match="there are files in it"), new_folder(tmp_path / name, ["file"]) as new:
            (new / "file").write_text("other")
    before = snapshot(tmp_path)[1:]
    with pytest.raises(ZeroDivisionError), new_folder(tmp_path / "other", []) as new:
        (new / "file").write_text("content")
        raise ZeroDivisionError
    assert snapshot(tmp_path)[1:] == before and (tmp_path / "link").is_symlink()


MAKE = """
import os, sys
from pathlib import Path
from jaxgpt import files

def die_at(moment):
    if moment == sys.argv[2]:
        os.kill(os.getpid(), 9)

replace = Path.replace
Path.replace = lambda *paths: (die_at("before the name"), replace(*paths), die_at("after the name"))
with files.new_folder(Path(sys.argv[1]), ["a", "b"]) as new:
    die_at("empty")
    (new / "a").write_text(1000 * "a")
    die_at("half")
    (new / "b").write_text(1000 * "b")
files.write_whole(Path(sys.argv[1]) / "../made.json", "{}")
"""


def test_after_a_kill_the_same_command_leaves_nothing_else(tmp_path):
    def make(moment=""):
        made = subprocess.run([sys.executable, "-c", MAKE, tmp_path / "made", moment], capture_output=True, text=True)
        assert made.returncode == (-9 if moment else 0), made.stderr

    (tmp_path / ".made.mine.tmp").touch()  # has another form of name
    with new_folder(tmp_path / "made", []) as living:  # by this process
        make()
        undisturbed = {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()}
        assert living.exists() and undisturbed.keys() == {"a", "b"}
        shutil.rmtree(tmp_path / "made")
    (tmp_path / "made").rmdir()
    for moment in ("empty", "half", "before the name", "after the name"):
        make(moment)
        assert (tmp_path / "made").exists() == (moment == "after the name")
        make()
        assert {path.name: path.read_bytes() for path in (tmp_path / "made").iterdir()} == undisturbed
        assert sorted(path.name for path in tmp_path.iterdir()) == [".made.mine.tmp", "made", "made.json"]
        shutil.rmtree(tmp_path / "made")


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o027, 0o177])
def test_what_is_made_for_its_owner_alone_has_no_mode_that_the_umask_forbids(tmp_path, umask):
    before = os.umask(umask)
    try:
        with owner_only():
            (tmp_path / "file").touch()
            (tmp_path / "folder").mkdir()
    finally:
        assert os.umask(before) == umask
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("file", "folder")]
    assert modes == [0o600 & ~umask, 0o700 & ~umask]


def test_a_folder_that_its_owner_has_opened_to_a_group_stays_so(tmp_path):
    (tmp_path / "run").mkdir()
    before = os.umask(0o002)
    try:
        for mode, file in ((0o700, 0o600), (0o750, 0o640), (0o2770, 0o660), (0o755, 0o644)):
            (tmp_path / "run").chmod(mode)
            with owner_only(tmp_path / "run"):
                (tmp_path / "run" / f"{mode}").touch()
            assert (tmp_path / "run" / f"{mode}").stat().st_mode & 0o777 == file
        with owner_only(tmp_path / "new"):
            (tmp_path / "new").mkdir()
        assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700
    finally:
        os.umask(before)


def test_a_folder_that_is_open_stays_so_within_a_command_which_is_its_users_alone(tmp_path):
    """A command runs in `owner_only`, and what it writes into such a folder has that folder's modes."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run").chmod(0o775)
    before = os.umask(0o002)
    try:
        with owner_only():
            with owner_only(tmp_path / "run"):
                (tmp_path / "run" / "shared").touch()
                with owner_only():
                    (tmp_path / "run" / "cached").touch()
                assert os.umask(0o002) == 0o002
            (tmp_path / "run" / "mine").touch()
    finally:
        assert os.umask(before) == 0o002
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "run").iterdir()}
    assert modes == {"shared": 0o664, "cached": 0o600, "mine": 0o600}


def test_a_full_disk_is_told_with_the_name_of_the_file(tmp_path):
    with no_file_may_grow(10), pytest.raises(OSError, match=r"File too large.*page.html"):
        write_whole(tmp_path / "page.html", "a long text")
    assert not list(tmp_path.iterdir())


def test_what_can_be_a_path(tmp_path):
    names = {f"{tmp_path}": True, f"{tmp_path}/a": True, "a\0b": False, "/" + 5000 * "x": False, "\ud800": False}
    assert {name: is_path(name) for name in names} == names
