import gzip

import pytest
import zstandard

from jaxgpt.prepare.compression import UNREADABLE, _decompress_blocks, open_file


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


def test_a_zstandard_frame_is_decompressed_a_block_at_a_time(tmp_path):
    path, skipped = tmp_path / "a.zst", b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    options = [{"level": 19, "write_checksum": True}, {"level": 1, "write_content_size": False}]
    frames = [zstandard.ZstdCompressor(**option).compress(b"a" * (1 << 20)) for option in options]
    path.write_bytes(skipped + frames[0] + skipped + frames[1] + skipped)
    with path.open("rb") as file:
        blocks = list(_decompress_blocks(file))
    assert b"".join(blocks) == b"a" * (2 << 20) and max(map(len, blocks)) <= 1 << 17
    path.write_bytes(frames[0][:-1] + b"x")  # another checksum
    with pytest.raises(UNREADABLE), open_file(path) as file:
        file.read()
