import ctypes

import jax
import numpy as np
import pytest

from jaxgpt import device
from jaxgpt.errors import UsageError


def test_put_moves_exactly_what_it_is_given():
    x, y = np.arange(6, dtype=np.int32).reshape(2, 3), np.ones((2, 3), np.int32)
    with jax.transfer_guard("disallow"):
        there = device.put(x, y)
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


def test_a_demanded_gpu_that_is_not_there_is_an_error(monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    with pytest.raises(UsageError, match="--device gpu: no usable NVIDIA GPU"):
        device.select("gpu")


def test_the_cpu_is_named_with_its_cores(monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    monkeypatch.setattr(jax.config, "update", lambda *_: None)  # JAX has started, on the CPU, long ago
    assert device.select("cpu").startswith("CPU, ")


@pytest.mark.parametrize(
    "platform, capability, dtype, head_size, expected",
    [
        ("cpu", None, "auto", 64, ("float32", "xla", 1)),
        ("cpu", None, "bfloat16", 64, ("bfloat16", "xla", 1)),
        ("gpu", "9.0", "auto", 64, ("bfloat16", "cudnn", 12)),
        ("gpu", "8.0", "auto", 64, ("bfloat16", "cudnn", 12)),
        ("gpu", "9.0", "float32", 64, ("float32", "xla", 12)),
        ("gpu", "9.0", "bfloat16", 20, ("bfloat16", "xla", 12)),  # cuDNN wants a multiple of 8
        ("gpu", "9.0", "bfloat16", 256, ("bfloat16", "xla", 12)),
        ("gpu", "7.5", "auto", 64, ("float32", "xla", 12)),  # Turing has no bfloat16
        ("gpu", "10.0", "auto", 64, ("bfloat16", "cudnn", 12)),
    ],
)
def test_what_the_device_decides(monkeypatch, platform, capability, dtype, head_size, expected):
    class Device:
        pass

    Device.platform, Device.compute_capability = platform, capability
    monkeypatch.setattr(jax, "devices", lambda: [Device()])
    decided = device.compute(dtype, 12, head_size)
    assert (decided["dtype"], decided["attention"], decided["unroll"]) == expected
