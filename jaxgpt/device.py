"""The one door to devices: which platform a run takes, and the explicit transfer of each batch."""

import ctypes
import os
from typing import Any, Literal

import jax
import numpy as np

from jaxgpt.errors import UsageError


def nvidia_gpus() -> int:
    """How many NVIDIA GPUs the driver offers, 0 without one. JAX is not asked: it prints a traceback then."""
    try:
        driver = ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    if driver.cuInit(0) != 0 or driver.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return 0
    return count.value


def select(device: Literal["auto", "gpu", "cpu"]) -> str:
    """Settle where this process runs, before JAX starts, and describe it in a few words.

    A JAX_PLATFORMS that the user has set decides for "auto".

    Raises:
      UsageError: "gpu" was demanded, and there is none that JAX can use.
    """
    reason = ""
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif device == "gpu" or not jax.config.jax_platforms:
        reason = _try_gpu()
        if reason and device == "gpu":
            raise UsageError(f"--device gpu: {reason}; see whether nvidia-smi lists one, or use --device cpu")
    first = jax.devices()[0]
    if first.platform != "cpu":
        return first.device_kind
    return f"CPU, {len(os.sched_getaffinity(0)) if hasattr(os, 'sched_getaffinity') else os.cpu_count()} cores" + (
        f" ({reason})" if reason else ""
    )


def _try_gpu() -> str:
    """Start JAX on the GPU, or on the CPU and say why."""
    reason = "no usable NVIDIA GPU: its driver was not found or lists none"
    if nvidia_gpus():
        jax.config.update("jax_platforms", "cuda,cpu")
        try:
            jax.devices()
            return ""
        except RuntimeError as error:
            reason = f"JAX can't use the NVIDIA GPU: {str(error).splitlines()[0]}"
    jax.config.update("jax_platforms", "cpu")
    return reason


def compute(dtype: Literal["auto", "float32", "bfloat16"], n_layer: int, head_size: int) -> dict[str, Any]:
    """What the selected device decides of a GPT2Config: dtype, attention and unroll.

    One loop-free program is one CUDA graph, so a GPU gets its layers unrolled; on a CPU that only costs compile time.
    """
    first = jax.devices()[0]
    on_gpu = first.platform == "gpu"
    ampere = on_gpu and float(first.compute_capability) >= 8.0  # the first with bfloat16, and with flash attention
    if dtype == "auto":
        dtype = "bfloat16" if ampere else "float32"
    cudnn = ampere and dtype == "bfloat16" and head_size % 8 == 0 and head_size <= 128
    return {"dtype": dtype, "attention": "cudnn" if cudnn else "xla", "unroll": n_layer if on_gpu else 1}


def put(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    """Move host arrays to the device: the run's only host-to-device transfer, once per step."""
    return jax.device_put(arrays)
