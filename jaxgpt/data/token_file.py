"""A token file: llm.c's format, a header of 1,024 bytes before the ids, or raw ids."""

import struct
from pathlib import Path

import numpy as np

from jaxgpt.console import plural
from jaxgpt.errors import DataError

HEADER_BYTES = 1024  # the token file of llm.c: 256 int32, of which the first three are magic, version, token count
TOKEN, WIDE_TOKEN = np.dtype("<u2"), np.dtype("<u4")
HEADERS = {TOKEN: (20240520, 1), WIDE_TOKEN: (20240801, 7)}  # llm.c's magic and version, for GPT-2 and for Llama 3


def header(count: int, dtype: np.dtype = TOKEN) -> bytes:
    """The first 1,024 bytes of a file of `count` tokens."""
    return struct.pack(f"<3i{HEADER_BYTES - 12}x", *HEADERS[dtype], count)


def map_file(path: Path, dtype: np.dtype = TOKEN) -> np.memmap:
    """Map a token file, `dtype` (N,): llm.c's format where its magic number leads, else raw ids.

    Raises:
      DataError: it is truncated, empty, or of another version or dtype. Whether its ids are a tokenizer's is not
        checked.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(HEADER_BYTES)
    offset, magic = 0, int.from_bytes(head[:4], "little")
    # No raw file of GPT-2 ids can begin with a magic number: read as uint16, the first halves are 55,432 and 55,713.
    if header_dtype := next((each for each, (known, _) in HEADERS.items() if known == magic), None):
        if size < HEADER_BYTES:
            raise DataError(
                f"{path}: truncated: {plural(size, 'byte')}, less than a {HEADER_BYTES:,}-byte header; write it again"
            )
        _, version, count = struct.unpack_from("<3i", head)
        if version != HEADERS[header_dtype][1]:
            known = f"only {HEADERS[header_dtype][1]}, {header_dtype.name} ids, is known"
            raise DataError(f"{path}: token file version {version}; {known}")
        if header_dtype != dtype:
            raise DataError(f"{path}: {header_dtype.name} ids, and those of the tokenizer are {dtype.name}")
        if size != HEADER_BYTES + count * dtype.itemsize:
            raise DataError(
                f"{path}: truncated or corrupt: its header counts {plural(count, 'token')}, "
                f"but {plural(size - HEADER_BYTES, 'byte')} follow it, not {count * dtype.itemsize:,}; write it again"
            )
        offset = HEADER_BYTES
    elif size % dtype.itemsize:
        width = "two" if dtype == TOKEN else "four"
        raise DataError(f"{path}: truncated or no token file: {plural(size, 'byte')} for ids of {width} bytes")
    if size == offset:
        raise DataError(f"{path}: the file holds no tokens")
    return np.memmap(path, dtype, mode="r", offset=offset)
