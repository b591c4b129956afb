"""One token file. Folders of them are in test_shards.py, and files that a user names in test_corpus.py."""

import numpy as np
import pytest

from jaxgpt.data.token_file import TOKEN, WIDE_TOKEN, header, map_file
from jaxgpt.errors import DataError


@pytest.mark.parametrize("dtype, magic, version", [(TOKEN, 20240520, 1), (WIDE_TOKEN, 20240801, 7)])
def test_a_file_with_llm_cs_header_or_without(dtype, magic, version, tmp_path):
    """GPT-2's and Llama 3's, in dev/data/data_common.py of llm.c."""
    ids = np.array([0, 50256, np.iinfo(dtype).max], dtype)
    numbers = np.zeros(256, "<i4")
    numbers[:3] = magic, version, len(ids)
    (tmp_path / "llm.bin").write_bytes(numbers.tobytes() + ids.tobytes())
    assert header(len(ids), dtype) == numbers.tobytes()
    (tmp_path / "raw.bin").write_bytes(ids.tobytes())
    for name in ("llm.bin", "raw.bin"):
        found = map_file(tmp_path / name, dtype)
        assert found.dtype == dtype and found.tolist() == ids.tolist()
    other = WIDE_TOKEN if dtype == TOKEN else TOKEN
    with pytest.raises(DataError, match=rf"{dtype.name} ids, and those of the tokenizer are {other.name}"):
        map_file(tmp_path / "llm.bin", other)
    numbers[1] = 9
    (tmp_path / "llm.bin").write_bytes(numbers.tobytes() + ids.tobytes())
    with pytest.raises(DataError, match=rf"token file version 9; only {version}, {dtype.name} ids, is known"):
        map_file(tmp_path / "llm.bin", dtype)
    (tmp_path / "raw.bin").write_bytes(ids.tobytes()[:-1])
    with pytest.raises(DataError, match=r"bytes for ids of (two|four) bytes"):
        map_file(tmp_path / "raw.bin", dtype)
