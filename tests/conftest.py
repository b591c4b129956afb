"""Tests run on the CPU, without the network, and with JAX's strictest settings."""

import dataclasses
import fcntl
import functools
import gc
import importlib.metadata
import importlib.util
import json
import os
import shutil
import tempfile
import types
import zlib
from pathlib import Path

os.environ["JAX_PLATFORMS"] = "cpu"  # before JAX starts, here and in the processes that tests start
os.environ["JAX_NUMPY_RANK_PROMOTION"] = "raise"
os.environ["OMP_NUM_THREADS"] = "1"  # threads of PyTorch's that wait for each other take more time than its small sums
os.environ["JAXGPT_PROGRESS"] = "off"  # lines of a busy machine, among those that tests expect
# Most of the time is compilation, of programs that then run for a moment: a fifth less of it without LLVM's passes, and
# half of the rest with XLA's older code generator, where it has that; and a quarter less of what is left by one module
# of LLVM's for a program, and no passes that only large ones are worth.
QUICK = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
QUICK += " --xla_cpu_parallel_codegen_split_count=1"
if importlib.metadata.version("jax").startswith(("0.10.", "0.11.")):
    QUICK += " --xla_cpu_use_fusion_emitters=false"
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {QUICK}".strip()
# Each program is compiled once for the whole suite: pytest's first process makes the folder, which its workers and the
# processes that tests start inherit; or it is the user's.
if "JAX_COMPILATION_CACHE_DIR" not in os.environ:
    COMPILED = tempfile.TemporaryDirectory(prefix="jaxgpt-tests-")
    os.environ["JAX_COMPILATION_CACHE_DIR"] = COMPILED.name
os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = "0"

import hypothesis
import jax
import numpy as np
import pytest
from jax._src import compiler
from jax._src.lru_cache import LRUCache

from jaxgpt.data.config import DataConfig
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runtime import device
from jaxgpt.runtime.xla import aot
from jaxgpt.training import setup
from jaxgpt.training.config import RunConfig
from jaxgpt.training.post_training import PostTrainingConfig

os.environ.update(device.gpu_settings())  # JAX starts later: programs for an H100 are those of a run on one


def put_at_once(self, key, value):
    """JAX's own way to keep a program lets another process read the half of it that is written."""
    part = self.path / f"{key}.{os.getpid()}"
    part.write_bytes(value)
    part.replace(self.path / f"{key}-cache")


LRUCache.put = put_at_once
MAX_MAPPINGS = 25_000
gc.set_threshold(50_000, 20, 20)  # tracing makes so many objects that a twentieth of the time went into looking at them

real_build_trainer = functools.lru_cache(maxsize=64)(setup.build_trainer)


def build_trainer(config, mesh=None, objective=None, lead=0):
    """Runs of a process whose trainers are the same have one trainer, and trace its programs once."""
    steps = config.run.steps if config.optimizer.lr_depends_on_steps else RunConfig.steps
    data = DataConfig(B=config.data.B, T=config.data.T, accumulate=config.data.accumulate)
    config = dataclasses.replace(config, run=RunConfig(steps=steps), data=data, post_training=PostTrainingConfig())
    return real_build_trainer(config, mesh or setup.single_device(), objective, lead)


setup.build_trainer = build_trainer

hypothesis.settings.register_profile("unhurried", deadline=None, max_examples=50)  # a busy machine is no error
hypothesis.settings.load_profile("unhurried")

# Eight devices of one CPU, which JAX has to be told of before it starts. A run sees the first alone, as in a process of
# its own, where a test doesn't ask for `eight_devices`.
jax.config.update("jax_num_cpu_devices", 8)
ALL_DEVICES, ALL_COUNT = jax.devices, jax.device_count
jax.devices, jax.device_count = (lambda *of: ALL_DEVICES(*of)[:1]), (lambda: 1)


@pytest.fixture
def eight_devices(monkeypatch):
    """All devices of this process, which a run in it takes too."""
    monkeypatch.setattr(jax, "devices", ALL_DEVICES)
    monkeypatch.setattr(jax, "device_count", ALL_COUNT)
    return jax.devices()


@pytest.fixture(scope="module", autouse=True)
def _free_programs():
    """Linux gives a process 65,530 mappings of memory; XLA takes some for each program, and beyond them it crashes."""
    yield
    maps = Path("/proc/self/maps")
    if maps.exists() and maps.read_bytes().count(b"\n") > MAX_MAPPINGS:
        real_build_trainer.cache_clear()
        jax.clear_caches()
        gc.collect()


@pytest.fixture(scope="session")
def once(tmp_path_factory):
    """once(name, make): a folder that `make(folder)` fills for all workers, in the first that asks for it.

    A test that changes what is in it takes a copy.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "once"
    shared.mkdir(exist_ok=True)

    def once(name, make):
        folder, done = shared / name, shared / f"{name}.done"
        with open(shared / f"{name}.lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)  # until the file is closed
            if not done.exists():
                shutil.rmtree(folder, ignore_errors=True)  # of a worker that failed
                folder.mkdir()
                make(folder)
                done.touch()
        return folder

    return once


@pytest.fixture
def optimized(monkeypatch):
    """Programs that are slower to compile and run in less than half the time: for trainings of hundreds of steps."""
    real = compiler.get_compile_options

    def get_compile_options(*args, **options):
        made = real(*args, **options)
        made.executable_build_options.debug_options.xla_backend_optimization_level = 1
        return made

    monkeypatch.setattr(compiler, "get_compile_options", get_compile_options)
    slow, fast = (f"--xla_backend_optimization_level={level}" for level in (0, 1))
    monkeypatch.setenv("XLA_FLAGS", os.environ["XLA_FLAGS"].replace(slow, fast))  # of processes that the test starts
    yield
    real_build_trainer.cache_clear()  # other tests compare numbers with those of processes of their own, to the bit
    jax.clear_caches()


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


@pytest.fixture(scope="session")
def h100():
    """Describes arguments, arrays or shapes, on an H100: what is lowered for them compiles for it, without one."""
    if not (importlib.util.find_spec("jax_plugins") and importlib.util.find_spec("jax_plugins.xla_cuda12")):
        pytest.skip("needs JAX's CUDA plug-in (Linux: pip install 'jax[cuda12]'); no GPU is needed")
    sharding = jax.sharding.SingleDeviceSharding(aot.described("h100")[0].devices.flat[0])

    def described(tree):
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=sharding), tree)

    return described


@pytest.fixture(scope="session")
def h100_step(h100, once):
    """h100_step(config, axes): the train step compiled for a mesh of H100s, once for all tests.

    It has what is asked of a jax.stages.Compiled, `as_text()` and `memory_analysis()`.
    """

    @functools.cache
    def of(config, axes):
        def make(folder):
            from jaxgpt.training.setup import compile_step

            compiled = compile_step(config, aot.described("h100", dict(axes))[0])
            plan = compiled.memory_analysis()
            names = [name for name in dir(plan) if name.endswith("_in_bytes")]
            (folder / "plan.json").write_text(json.dumps({name: getattr(plan, name) for name in names}))
            (folder / "program.txt").write_text(compiled.as_text())

        folder = once(f"h100-{zlib.crc32(repr((config, axes)).encode()):08x}", make)
        text, plan = (folder / "program.txt").read_text(), json.loads((folder / "plan.json").read_text())
        plan = types.SimpleNamespace(**plan)
        return types.SimpleNamespace(as_text=lambda: text, memory_analysis=lambda: plan)

    return lambda config, axes=None: of(config, tuple((axes or {}).items()))


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
