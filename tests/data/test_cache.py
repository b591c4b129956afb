import tempfile
from pathlib import Path

import pytest

from jaxgpt.data.cache import cache_folder, write_atomically


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


def test_a_file_is_written_with_its_folders_and_nothing_beside_it(tmp_path):
    path = tmp_path / "new" / "folder" / "file"
    for content in (b"first", b"second"):
        write_atomically(path, content)
        assert path.read_bytes() == content and list(path.parent.iterdir()) == [path]


def test_a_writer_that_fails_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(b"first")
    with pytest.raises(TypeError):
        write_atomically(path, "no bytes")
    assert path.read_bytes() == b"first" and list(tmp_path.iterdir()) == [path]
