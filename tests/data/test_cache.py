import os
import tempfile
from pathlib import Path

import pytest

from jaxgpt.data import cache as caches
from jaxgpt.data import corpus
from jaxgpt.data.cache import cache_folder, make_private, write_atomically
from jaxgpt.data.examples import read_examples
from jaxgpt.runtime import device


def test_the_variable_names_the_cache(monkeypatch, tmp_path):
    monkeypatch.setenv("JAXGPT_CACHE", str(tmp_path / "elsewhere"))
    assert cache_folder() == tmp_path / "elsewhere"
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("named", [None, ""])
@pytest.mark.parametrize("home", ["/home/ada", None])
def test_without_it_the_cache_is_in_the_home_of_a_user_who_has_one(monkeypatch, home, named):
    def find_home():
        if home is None:
            raise RuntimeError("Could not determine home directory.")
        return Path(home)

    monkeypatch.delenv("JAXGPT_CACHE") if named is None else monkeypatch.setenv("JAXGPT_CACHE", named)
    monkeypatch.setattr(Path, "home", find_home)
    assert cache_folder() == (Path("/home/ada/.cache/jaxgpt") if home else Path(tempfile.gettempdir()) / "jaxgpt")


def test_a_file_is_written_with_its_folders_for_its_owner_alone_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]
    assert [each.stat().st_mode & 0o777 for each in (path, path.parent, path.parent.parent)] == [0o600, 0o700, 0o700]


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]


# ---- Other users


TOKENS, PROGRAM = f"gpt2-{'0' * 64}.bin", f"jit_train_step-{'1' * 64}-cache"


@pytest.fixture
def notes(capsys):
    """The notes since the last call."""
    caches._note_once.cache_clear()
    return lambda: capsys.readouterr().err.replace("note: ", "").splitlines()


def fill(folder, folder_mode, file_mode):
    folder.mkdir(parents=True, exist_ok=True)
    for name in (TOKENS, PROGRAM, "other.txt"):
        (folder / name).write_text(name)
        (folder / name).chmod(file_mode)
    folder.chmod(folder_mode)
    return folder


@pytest.mark.parametrize(
    "folder_mode, file_mode, stays",
    [(0o755, 0o644, True), (0o700, 0o600, True)]
    + [
        (folder_mode, file_mode, False)
        for folder_mode, file_mode in ((0o775, 0o644), (0o777, 0o600), (0o1777, 0o644), (0o755, 0o664), (0o700, 0o646))
    ],
)
def test_what_others_can_have_written_is_deleted_and_an_old_cache_stays(tmp_path, notes, folder_mode, file_mode, stays):
    folder = fill(tmp_path / "tokens", folder_mode, file_mode)
    make_private(folder)
    assert {path.name for path in folder.iterdir()} == {"other.txt"} | ({TOKENS, PROGRAM} if stays else set())
    assert folder.stat().st_mode & 0o777 == 0o700 and len(notes()) == (not stays)
    make_private(folder)
    assert notes() == []


def test_of_another_users_folder_nothing_is_used(tmp_path, notes, monkeypatch):
    folder = fill(tmp_path / "compiled", 0o755, 0o644)
    monkeypatch.setattr(os, "geteuid", lambda: folder.stat().st_uid + 1)
    kept = []
    monkeypatch.setattr(device.jax.config, "update", lambda name, value: kept.append(value))
    monkeypatch.setattr(type(device.jax.config), "jax_compilation_cache_dir", None, raising=False)
    device.keep_compiled(folder)
    with pytest.raises(PermissionError):
        write_atomically(folder / "new", b"")
    assert kept == [] and (folder / TOKENS).exists() and not (folder / "new").exists()
    assert notes() == [f"{folder} belongs to another user; nothing is cached: set JAXGPT_CACHE to a folder of your own"]


@pytest.mark.parametrize("named", [False, True])
def test_a_folder_that_stays_open_to_others_is_not_used_and_loses_nothing(tmp_path, notes, monkeypatch, named):
    """One where chmod has no effect, and a lab's shared one, whose modes stay."""
    folder = fill(tmp_path / "lab" / "tokens", 0o2775, 0o664)
    if named:
        monkeypatch.setenv("JAXGPT_CACHE", str(tmp_path / "lab"))
    else:
        monkeypatch.setattr(Path, "chmod", lambda *_: None)
    for _ in range(2):
        with pytest.raises(PermissionError):
            make_private(folder)
    assert len(list(folder.iterdir())) == 3 and folder.stat().st_mode & 0o7777 == 0o2775
    (line,) = notes()
    assert f"others can write to {folder}" in line and ("delete it, or set" if named else "another disk") in line


@pytest.mark.skipif(os.name != "posix" or os.geteuid() != 0, reason="only root can give a file away")
def test_a_file_of_another_user_is_deleted(tmp_path, notes):
    folder = fill(tmp_path / "compiled", 0o755, 0o644)
    os.chown(folder / PROGRAM, 12345, -1)
    (folder / f"jit_f-{'2' * 64}-cache").symlink_to(folder / "other.txt")
    make_private(folder)
    assert {path.name for path in folder.iterdir()} == {TOKENS, "other.txt"} and len(notes()) == 1


@pytest.mark.parametrize("name", ["a.txt", "a.jsonl"])
def test_tokens_that_another_user_has_planted_are_not_used(tmp_path, cache, notes, name):
    """They have a hash of their own beside them, as ours have."""

    def load(word):
        (tmp_path / name).write_text(f'{{"prompt": "One", "completion": "{word}"}}')
        path = str(tmp_path / name)
        return (corpus.load(path) if name == "a.txt" else read_examples(path)[1]).tokens.tolist()

    theirs, (planted,) = load("lie"), (cache / "tokens").iterdir()
    mine, (ours,) = load("text"), {*(cache / "tokens").iterdir()} - {planted}
    planted.replace(ours)
    assert load("text") == theirs != mine
    (cache / "tokens").chmod(0o777)
    assert load("text") == mine and len(notes()) == 1
