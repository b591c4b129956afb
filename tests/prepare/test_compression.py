import gzip

import pytest
import zstandard

from jaxgpt.prepare.compression import UNREADABLE, open_file


@pytest.mark.parametrize("suffix, pack", [("", bytes), (".gz", gzip.compress), (".ZST", zstandard.compress)])
def test_a_file_of_several_parts_is_read_whole_and_a_truncated_one_is_an_error(tmp_path, suffix, pack):
    path = tmp_path / f"a.txt{suffix}"
    content = pack(b"one\n" * 50_000) + pack(b"") + pack(b"two")
    path.write_bytes(content)
    with open_file(path) as file:
        assert file.readlines() == [b"one\n"] * 50_000 + [b"two"]
    if suffix:
        path.write_bytes(content[:-3])
        with pytest.raises(UNREADABLE), open_file(path) as file:
            file.read()
