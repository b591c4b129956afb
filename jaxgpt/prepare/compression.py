"""Files that may be compressed, with gzip or Zstandard. They are decompressed as they are read, never ahead."""

import gzip
import io
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import zstandard

# What a corrupt file raises.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zstandard.ZstdError)


def describe(error: Exception) -> str:
    """What is wrong with such a file, without the bytes that gzip quotes of one that is none."""
    return " ".join(str(error).split()).partition(" (b")[0][:200]


def open_file(path: Path) -> IO[bytes]:
    """The content of a file, decompressed if its name ends in .gz or .zst."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(ZstandardFile(path.open("rb")), 1 << 17)
    return path.open("rb")


class ZstandardFile(io.RawIOBase):
    """The content of a .zst file. The library's own reader takes a truncated file for a complete one."""

    def __init__(self, file: IO[bytes]):
        self.file, self.blocks, self.ready = file, _decompress_blocks(file), memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            if (block := next(self.blocks, None)) is None:
                return 0
            self.ready = memoryview(block)
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count

    def close(self) -> None:
        self.file.close()
        super().close()


def _decompress_blocks(file: IO[bytes]) -> Iterator[bytes]:
    """The content of Zstandard's frames (RFC 8878, section 3.1), block by block: at most 128 KiB at once.

    A block of four bytes may have that much, so the library, which decompresses all that it is given, gets one at a
    time. It takes up to 128 MiB for a frame's window, as the command `zstd` does, and refuses a larger one.
    """

    def read(size: int) -> bytes:
        if len(content := file.read(size)) < size:
            raise EOFError("it ends within a frame")
        return content

    while magic := file.read(4):
        if magic[1:] == b"\x2a\x4d\x18" and magic[0] >> 4 == 5:  # a frame to skip
            left = int.from_bytes(read(4), "little")
            while left:
                left -= len(read(min(left, 1 << 16)))
            continue
        descriptor = read(1)
        flags = descriptor[0]
        is_single, has_checksum = flags >> 5 & 1, flags >> 2 & 1
        rest = 1 - is_single + (0, 1, 2, 4)[flags & 3] + (is_single, 2, 4, 8)[flags >> 6]
        frame = zstandard.ZstdDecompressor().decompressobj()
        yield frame.decompress(magic + descriptor)
        yield frame.decompress(read(rest))
        is_last = False
        while not is_last:
            header = read(3)
            bits = int.from_bytes(header, "little")
            is_last, is_repeated, size = bits & 1, bits >> 1 & 3 == 1, bits >> 3
            yield frame.decompress(header + read(1 if is_repeated else size))
        if has_checksum:
            yield frame.decompress(read(4))
