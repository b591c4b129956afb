"""Tests run on the CPU, without the network, and with JAX's strictest settings."""

import importlib.metadata
import importlib.util
import json
import os
import tempfile

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts, here and in the processes that tests start
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
# Most of the time is compilation, of programs that then run for a moment: a fifth less of it without LLVM's passes, and
# half of the rest with XLA's older code generator, where it has that.
QUICK = "--xla_backend_optimization_level=0"
if importlib.metadata.version("jax").startswith(("0.10.", "0.11.")):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
# Each program is compiled once for the whole suite, the processes that tests start included.
COMPILED = tempfile.TemporaryDirectory(prefix="jaxgpt-tests-")
os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import jax
import numpy as np
import pytest

from jaxgpt.models.configs import GPT2Config
from jaxgpt.runtime import device
from jaxgpt.runtime.xla import aot

os.environ.update(device.gpu_settings())  # JAX starts later: programs for an H100 are those of a run on one


# The files that take the longest, in this order; each is one worker's.
LONGEST = ("train", "distributed", "multi_token", "generate", "mesh", "traffic", "sample", "checkpoint", "step", "aot")
LONGEST += ("replay", "fit", "prepare", "loop", "evaluate", "classify", "base", "harness", "datasets", "order")


def pytest_collection_modifyitems(items):
    """The longest files come first, so that no worker begins one when the other has nothing left to do."""
    places = {f"test_{name}": place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: places.get(item.path.stem, len(places)))


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Only tests that start a server of their own may connect, and only to it."""
    import socket

    connect = socket.socket.connect

    def local(self, address):
        assert self.family == socket.AF_UNIX or address[0] in ("127.0.0.1", "::1"), f"a test connects to {address}"
        return connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", local)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """An empty cache folder of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("JAXGPT_CACHE", str(folder))
    return folder


@pytest.fixture
def tiny():
    """A model of a few thousand parameters, with no two dimensions alike."""
    return GPT2Config(vocab_size=61, block_size=16, n_layer=3, n_head=2, n_embd=20)


@pytest.fixture
def batch():
    """`tokens` and `targets` of shape (2, 12) for `tiny`."""
    ids = np.random.default_rng(0).integers(0, 61, (2, 13), dtype=np.int32)
    return jax.device_put({"tokens": ids[:, :-1], "targets": ids[:, 1:]})


@pytest.fixture
def h100():
    """Describes arguments, arrays or shapes, on an H100: what is lowered for them compiles for it, without one."""
    if not (importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12")):
        pytest.skip("needs JAX's CUDA plug-in (Linux: pip install 'jax[cuda12]'); no GPU is needed")
    sharding = jax.sharding.SingleDeviceSharding(aot.described("h100")[0].devices.flat[0])

    def described(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    return described


@pytest.fixture
def write(tmp_path):
    """Writes a file: of text, of bytes, or of objects, one a line."""

    def write(name, content):
        if not isinstance(content, str | bytes):
            content = "".join(json.dumps(each) + "\n" for each in content)
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write
