"""Files that may be compressed, with gzip or Zstandard."""

import gzip
import io
import zlib
from pathlib import Path
from typing import IO, Any

import zstandard

# What a corrupt file raises.
UNREADABLE = (OSError, EOFError, ValueError, RuntimeError, zlib.error, zstandard.ZstdError)


def open_file(path: Path) -> IO[bytes]:
    """The content of a file, decompressed if its name ends in .gz or .zst."""
    if path.suffix.lower() == ".gz":
        return gzip.open(path)
    if path.suffix.lower() == ".zst":
        return io.BufferedReader(ZstandardFile(path.open("rb")))
    return path.open("rb")


class ZstandardFile(io.RawIOBase):
    """The content of a .zst file. The library's own reader takes a truncated file for a complete one."""

    def __init__(self, file: IO[bytes]):
        self.file, self.frame, self.compressed, self.ready = file, None, b"", b""

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self.ready:
            compressed, self.compressed = self.compressed or self.file.read(1 << 16), b""
            if not compressed and self.frame:
                raise EOFError("it ends within a frame")
            if not compressed:
                return 0
            self.frame = self.frame or zstandard.ZstdDecompressor().decompressobj()
            self.ready = self.frame.decompress(compressed)
            if self.frame.eof:
                self.compressed, self.frame = self.frame.unused_data, None
        count = min(len(buffer), len(self.ready))
        buffer[:count], self.ready = self.ready[:count], self.ready[count:]
        return count

    def close(self) -> None:
        self.file.close()
        super().close()
