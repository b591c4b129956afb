import ctypes
import os
import re
import resource
import subprocess
import sys
import types
import warnings
from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt.errors import RetryableError
from jaxgpt.runtime import device


def test_put_moves_exactly_what_it_is_given():
    x, y = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.int32)
    with jax.transfer_guard("disallow"):
        there = device.put((x, y))
    assert all(isinstance(array, jax.Array) for array in there)
    assert np.array_equal(there[0], x) and np.array_equal(there[1], y)


def test_no_driver_no_gpu(monkeypatch):
    def missing(name):
        raise OSError(f"{name}: cannot open shared object file")

    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert device.nvidia_gpus() == 0


@pytest.mark.parametrize("init, count, expected", [(0, 2, 2), (100, 2, 0), (0, 0, 0)])
def test_the_driver_is_asked(monkeypatch, init, count, expected):
    class Driver:
        def cuInit(self, flags):
            return init

        def cuDeviceGetCount(self, pointer):
            pointer._obj.value = count
            return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    assert device.nvidia_gpus() == expected


def in_a_new_process(device_flag, gpus, **environment):
    """device.select where the driver lists that many GPUs: what it returns or raises, and all of stderr."""
    code = f"""
from jaxgpt import errors
from jaxgpt.runtime import device
device.nvidia_gpus = lambda: {gpus}
try:
    print(device.select({device_flag!r}))
except errors.UsageError as error:
    print("UsageError:", error)
"""
    environment = {name: value for name, value in os.environ.items() if name != "JAX_PLATFORMS"} | environment
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=60)


@pytest.mark.parametrize(
    "flag, gpus, platforms, expected",
    [
        ("auto", 0, None, r"CPU, \d+ cores \(no usable NVIDIA GPU: its driver was not found or lists none\)"),
        ("cpu", 1, None, r"CPU, \d+ cores"),
        ("auto", 0, "cpu", r"CPU, \d+ cores"),
        ("gpu", 0, None, "UsageError: --device gpu: no usable NVIDIA GPU.*; see whether nvidia-smi lists one.*"),
        # the driver lists a GPU, but JAX can't start on it, as on every machine where these tests find none
        ("auto", 1, None, r"CPU, \d+ cores \(JAX can't use the GPU: .+\)"),
        ("gpu", 1, None, "UsageError: --device gpu: JAX can't use the GPU: .+; see whether nvidia-smi.*"),
        ("auto", 0, "cuda", "UsageError: JAX can't start on cuda: .*; use --device cpu"),
    ],
)
@pytest.mark.skipif(device.nvidia_gpus() > 0, reason="these are the answers of a machine without a GPU")
def test_where_a_run_goes_without_a_gpu(flag, gpus, platforms, expected):
    done = in_a_new_process(flag, gpus, **({"JAX_PLATFORMS": platforms} if platforms else {}))
    assert done.stderr == ""  # none of JAX's tracebacks
    assert re.fullmatch(expected, done.stdout.rstrip("\n"))


NUMBERS = """
import jax, jax.numpy as jnp
from jaxgpt.runtime import device
device.select("cpu")
keys = jax.random.split(jax.random.key(7), 3)
print(jax.random.normal(keys[0], (5, 7)).tolist(), jax.random.gumbel(keys[1], (3,)).tolist())
print((jnp.arange(3) + jnp.float32(2)).dtype, jnp.asarray(1.5).dtype, jax.jit(lambda x: 0 / x)(jnp.zeros(2)).tolist())
"""


def test_a_seed_gives_the_same_numbers_whatever_jax_settings_the_environment_has():
    others = {"DEFAULT_PRNG_IMPL": "rbg", "THREEFRY_PARTITIONABLE": "0", "RANDOM_SEED_OFFSET": "5"}
    others |= {"HIGH_DYNAMIC_RANGE_GUMBEL": "1", "ENABLE_X64": "1", "DEFAULT_MATMUL_PRECISION": "bfloat16"}
    others |= {"NUMPY_DTYPE_PROMOTION": "strict", "DISABLE_MOST_OPTIMIZATIONS": "1", "DISABLE_JIT": "1"}
    others |= {"DEBUG_NANS": "1", "DEBUG_INFS": "1", "TRANSFER_GUARD": "disallow"}
    others |= {f"ERROR_CHECKING_BEHAVIOR_{what}": "raise" for what in ("NAN", "DIVIDE", "OOB")}
    others |= dict.fromkeys(("NO_TRACING", "NO_EXECUTION", "SCAN3"), "1")
    others = {f"JAX_{name}": value for name, value in others.items()} | {"EAGER_CONSTANT_FOLDING": "1"}
    assert {name.lower() for name in others} == device.SETTINGS.keys()
    done = [
        subprocess.run([sys.executable, "-c", NUMBERS], capture_output=True, text=True, env=os.environ | more)
        for more in ({}, others)
    ]
    assert done[0].stdout.endswith("float32 float32 [nan, nan]\n") and done[0].stdout == done[1].stdout
    assert done[0].stderr == "" and done[1].stderr.count("\n") == 1
    note, reason = done[1].stderr.split(": not used, ")
    assert reason == "so that the seed and the flags alone decide the numbers\n"
    known = {name for name in others if name.lower() in jax.config.values}  # to this version of JAX
    assert set(note.removeprefix("note: ").split(", ")) == known


@pytest.mark.parametrize(
    "platform, capability, dtype, head_size, T, expected",
    [
        ("cpu", None, "auto", 64, 32, ("float32", "xla", 12)),
        ("cpu", None, "bfloat16", 64, 32, ("bfloat16", "xla", 12)),
        ("gpu", "9.0", "auto", 64, 32, ("bfloat16", "cudnn", 12)),
        ("gpu", "8.0", "auto", 64, 32, ("bfloat16", "cudnn", 12)),
        ("gpu", "9.0", "float32", 64, 32, ("float32", "xla", 12)),
        ("gpu", "9.0", "bfloat16", 20, 32, ("bfloat16", "xla", 12)),  # cuDNN wants a multiple of 8
        ("gpu", "9.0", "bfloat16", 256, 32, ("bfloat16", "xla", 12)),
        ("gpu", "9.0", "auto", 64, 33, ("bfloat16", "xla", 12)),  # cuDNN has no backward pass for an odd T
        ("gpu", "7.5", "auto", 64, 32, ("float32", "xla", 12)),  # Turing has no bfloat16
        ("gpu", "10.0", "auto", 64, 32, ("bfloat16", "cudnn", 12)),
    ],
)
def test_what_the_device_decides(monkeypatch, platform, capability, dtype, head_size, T, expected):
    class Device:
        pass

    Device.platform, Device.compute_capability = platform, capability
    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    decided = device.compute(dtype, 12, head_size, T)
    assert (decided["dtype"], decided["attention"], decided["unroll"]) == expected


def test_on_a_cpu_layers_whose_activations_are_computed_again_stay_in_a_loop():
    assert device.compute("auto", 12, 64, 32, remat="full") == {
        "dtype": "float32",
        "attention": "xla",
        "unroll": 1,
        "remat": "full",
    }


def test_settings_for_a_gpu_leave_what_the_user_has_set(monkeypatch):
    monkeypatch.setattr(jax, "__version_info__", (0, 11, 0))
    monkeypatch.delenv("XLA_FLAGS", raising=False)
    monkeypatch.delenv("XLA_PYTHON_CLIENT_MEM_FRACTION", raising=False)
    messages = "".join(
        f" --xla_gpu_{kind}_combine_threshold_bytes=1000000" for kind in ("all_reduce", "all_gather", "reduce_scatter")
    )
    atomics = "--xla_gpu_enable_triton_gemm=false --xla_backend_extra_options=-nvptx-allow-ftz-atomics"
    assert device.gpu_settings() == {"XLA_FLAGS": atomics + messages, "XLA_PYTHON_CLIENT_MEM_FRACTION": "0.9"}
    assert device.gpu_settings(deterministic=True)["XLA_FLAGS"].endswith(" --xla_gpu_deterministic_ops=true")
    monkeypatch.setattr(jax, "__version_info__", (0, 12, 0))
    assert device.gpu_settings()["XLA_FLAGS"] == (
        "--xla_gpu_enable_triton_gemm=false --xla_gpu_enable_dynamic_slice_fusion=false" + messages
    )
    ours = "--xla_gpu_enable_triton_gemm=true --xla_gpu_enable_dynamic_slice_fusion=true"
    ours += messages.replace("1000000", "5")
    monkeypatch.setenv("XLA_FLAGS", ours)
    monkeypatch.setenv("XLA_CLIENT_MEM_FRACTION", "0.5")
    assert device.gpu_settings() == {"XLA_FLAGS": ours}


def test_compiled_programs_are_kept_only_where_they_can_be(tmp_path, monkeypatch, capsys):
    kept = []
    monkeypatch.setattr(jax.config, "update", lambda name, value: kept.append(value))
    monkeypatch.setattr(type(jax.config), "jax_compilation_cache_dir", None, raising=False)
    (tmp_path / "file").write_text("")
    device.keep_compiled(tmp_path / "file" / "compiled")
    (tmp_path / "link" / "compiled").mkdir(parents=True)
    (tmp_path / "link" / "compiled" / "jit_step-cache").symlink_to(tmp_path / "victim")  # which JAX would write
    device.keep_compiled(tmp_path / "link" / "compiled")
    assert not kept and "jit_step-cache is a symbolic link, and jaxgpt writes" in capsys.readouterr().err
    device.keep_compiled(tmp_path / "new" / "compiled")
    assert kept[0] == str(tmp_path / "new" / "compiled")


def test_a_half_written_compiled_program_is_compiled_again_without_a_warning(tmp_path):
    """As a kill leaves it in JAX's cache."""

    def half_written_program(x):
        return 3 * x + 1

    with warnings.catch_warnings(record=True) as warned:
        device.keep_compiled(tmp_path / "compiled")
        assert jax.jit(half_written_program)(1) == 4
        (kept,) = Path(os.environ["JAX_COMPILATION_CACHE_DIR"]).glob("jit_half_written_program-*-cache")
        kept.write_bytes(kept.read_bytes()[:99])
        jax.jit(half_written_program).clear_cache()
        assert jax.jit(half_written_program)(1) == 4
    kept.unlink()
    assert [str(each.message) for each in warned] == []


def test_free_memory_is_the_least_of_what_system_container_and_process_are_left(monkeypatch, tmp_path):
    monkeypatch.setattr(device, "ROOT", tmp_path)
    assert device.free_memory() == float("inf")  # nobody tells
    (tmp_path / "proc").mkdir()
    (tmp_path / "proc" / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 700 kB\nSwapFree:       50 kB\n")
    assert device.free_memory() == 750 * 1024
    group = tmp_path / "sys" / "fs" / "cgroup"
    group.mkdir(parents=True)
    (group / "memory.stat").write_text("anon 300000\nfile 9000000\n")
    (group / "memory.max").write_text("max\n")
    assert device.free_memory() == 750 * 1024
    (group / "memory.max").write_text("400000\n")
    assert device.free_memory() == 100_000
    (tmp_path / "proc" / "self").mkdir()
    (tmp_path / "proc" / "self" / "statm").write_text("5 4 3 2 0 1 0\n")
    assert device.free_memory() == 100_000
    monkeypatch.setattr(resource, "getrlimit", lambda which: (5 * resource.getpagesize() + 70_000, 10**12))
    assert device.free_memory() == 70_000
    monkeypatch.setattr(device, "SPARE_ADDRESSES", 20_000)
    device.require_addresses(50_000)
    with pytest.raises(RetryableError, match=r"out of memory: 0.00 GB are needed, .* limit; raise it \(ulimit -v\)"):
        device.require_addresses(50_001)


@pytest.mark.parametrize("stats, free", [({"bytes_limit": 900, "bytes_in_use": 250}, 650), (None, float("inf"))])
def test_free_memory_of_a_gpu_is_what_it_says(monkeypatch, stats, free):
    here = types.SimpleNamespace(platform="gpu", memory_stats=lambda: stats)
    monkeypatch.setattr(jax, "devices", lambda: [another_process_s()])
    monkeypatch.setattr(jax, "local_devices", lambda: [here])
    assert device.free_memory() == free
    assert device.memory_limit() == (stats or {"bytes_limit": float("inf")})["bytes_limit"]


def another_process_s():
    def memory_stats():
        raise jax.errors.JaxRuntimeError("MemoryStats is only supported for addressable PjRt devices")

    return types.SimpleNamespace(platform="gpu", memory_stats=memory_stats)


def test_devices_of_a_cpu_have_one_memory():
    assert device.memory_limit() == float("inf")


def test_a_program_takes_its_temporary_memory_and_the_outputs_that_are_not_donated(monkeypatch):
    step = jax.jit(lambda state, x: (state + x.sum(), x[None] * x[:, None]), donate_argnums=0)
    x = jax.ShapeDtypeStruct((1000,), "float32")
    plan = step.lower(x, x).compile().memory_analysis()
    assert plan.alias_size_in_bytes == 4000
    needed = 1.1 * (4_000_000 + plan.temp_size_in_bytes)
    monkeypatch.setattr(device, "free_memory", lambda: needed + 100)  # for the tuple's pointers
    device.require_memory(plan, "use less")
    monkeypatch.setattr(device, "free_memory", lambda: needed - 1)
    with pytest.raises(RetryableError, match=r"0.00 GB are needed, and 0.00 GB are free; use less"):
        device.require_memory(plan, "use less")


def test_running_out_of_memory_is_one_line():
    message = r"out of memory: .*; take less$"
    with pytest.raises(RetryableError, match=message), device.memory_errors("take less"):
        jax.numpy.zeros((2**22, 2**22)).block_until_ready()
    with pytest.raises(RetryableError, match=message), device.memory_errors("take less"):
        raise jax.errors.JaxRuntimeError("INTERNAL: YNNPACK operation failed: error")
    with pytest.raises(jax.errors.JaxRuntimeError), device.memory_errors("take less"):
        raise jax.errors.JaxRuntimeError("INTERNAL: another error")
    with pytest.raises(ZeroDivisionError), device.memory_errors("take less"):
        raise ZeroDivisionError
