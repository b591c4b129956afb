"""Files of tensors: a shard, an index, and what is none of them. What a model makes of them: test_huggingface.py."""

import json

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.tensors import find_files, find_tensors

TENSORS = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(4, np.float16)}


def read(folder):
    """All tensors of a folder, as they come from their files."""
    found = {}
    for tensor in (tensor for file in find_files(folder) for tensor in find_tensors(file)):
        found[tensor.name] = np.empty(tensor.shape, np.float32)
        tensor.read(found[tensor.name])
    return found


@pytest.fixture
def file(tmp_path):
    save_file(TENSORS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_shards_with_an_index(tmp_path):
    for number, name in enumerate(TENSORS, 1):
        save_file({name: TENSORS[name]}, tmp_path / f"model-{number}-of-2.safetensors")
    index = {"weight_map": {"a": "model-1-of-2.safetensors", "b": "model-2-of-2.safetensors"}}
    path = tmp_path / "model.safetensors.index.json"
    path.write_text(json.dumps(index))
    found = read(tmp_path)
    assert found.keys() == TENSORS.keys() and all(np.array_equal(found[name], TENSORS[name]) for name in found)
    (tmp_path / "model-2-of-2.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model-2-of-2.safetensors: corrupt, or no safetensors file"):
        read(tmp_path)
    wrong = ("{}", "[" * 10**5, '{"weight_map": {"a": "../x"}}', '{"weight_map": {"a": 1}}', '{"weight_map": 3}')
    for content in wrong:
        path.write_text(content)
        with pytest.raises(CheckpointError, match=r"index.json: no index of safetensors files"):
            read(tmp_path)


@pytest.mark.parametrize("content", [b"", b"x" * 100, b"\x80\x04" + b"a" * 200, "cut"])
def test_a_damaged_file_is_named(file, content):
    file.write_bytes(file.read_bytes()[:-3] if content == "cut" else content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors: corrupt, or no safetensors file"):
        read(file.parent)


def test_a_pointer_of_git_lfs_is_named(file):
    file.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{64 * '0'}\nsize 548105171\n")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: a Git LFS pointer in place of the weights; "):
        read(file.parent)


def test_a_pickle_is_not_read(file):
    file.rename(file.with_name("pytorch_model.bin"))
    with pytest.raises(CheckpointError, match=r"no model\.safetensors there, and pytorch_model\.bin is a pickle"):
        read(file.parent)
    file.with_name("pytorch_model.bin").unlink()
    with pytest.raises(CheckpointError, match=r"no model\.safetensors there, nor model\.safetensors\.index\.json"):
        read(file.parent)
