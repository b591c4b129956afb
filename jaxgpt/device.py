"""The one door to devices: which platform a run takes, and the explicit transfer of each batch."""

import contextlib
import ctypes
import logging
import os
from collections.abc import Iterator
from typing import Any, Literal

import jax
import numpy as np

from jaxgpt.errors import TryAgainError, UsageError


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
    """Settle where this process runs, start JAX there, and describe it in a few words.

    A JAX_PLATFORMS that the user has set decides for "auto".

    Raises:
      UsageError: "gpu" was demanded, and there is none that JAX can use; or JAX_PLATFORMS names what is not there.
    """
    reason = ""
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif device == "gpu" or not jax.config.jax_platforms:
        gpus = nvidia_gpus()
        jax.config.update("jax_platforms", "cuda,cpu" if gpus else "cpu")
        reason = "" if gpus else "no usable NVIDIA GPU: its driver was not found or lists none"
    first, complaint = _start()
    reason = reason or complaint
    if device == "gpu" and (first is None or first.platform != "gpu"):
        raise UsageError(f"--device gpu: {reason}; see whether nvidia-smi lists one, or use --device cpu")
    if first is None:
        raise UsageError(f"JAX can't start on {jax.config.jax_platforms}: {reason}; use --device cpu")
    if first.platform == "gpu":
        return first.device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {cores} cores" + (f" ({reason})" if reason else "")


def _start() -> tuple[jax.Device | None, str]:
    """JAX's first device, None if it has none, and what went wrong on the way, without JAX's tracebacks."""
    complaints = []

    def keep(record: logging.LogRecord) -> bool:
        complaints.append(record.exc_info[1] if record.exc_info else record.getMessage())
        return False

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(keep)
    first = None
    try:
        first = jax.devices()[0]
    except Exception as error:  # JAX raises RuntimeError and AssertionError here
        complaints.append(error)
    finally:
        logger.removeFilter(keep)
    return first, "".join(f"JAX can't use the GPU: {str(c).splitlines()[0]}" for c in complaints[:1] if str(c))


@contextlib.contextmanager
def memory_errors(what_takes_less: str) -> Iterator[None]:
    """Within this context, running out of memory, on the host or the device, is one line: TryAgainError."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        first_line = (str(error).splitlines() or ["of the host"])[0]
        if isinstance(error, jax.errors.JaxRuntimeError) and "out of memory" not in str(error).lower():
            raise
        raise TryAgainError(f"out of memory: {first_line}; {what_takes_less}") from None


def compute(dtype: Literal["auto", "float32", "bfloat16"], n_layer: int, head_size: int, T: int) -> dict[str, Any]:
    """What the selected device decides of a GPT2Config: dtype, attention and unroll.

    One loop-free program is one CUDA graph, so a GPU gets its layers unrolled; on a CPU that only costs compile time.
    """
    first = jax.devices()[0]
    on_gpu = first.platform == "gpu"
    ampere = on_gpu and float(first.compute_capability) >= 8.0  # the first with bfloat16, and with flash attention
    if dtype == "auto":
        dtype = "bfloat16" if ampere else "float32"
    cudnn = ampere and dtype == "bfloat16" and head_size % 8 == 0 and head_size <= 128 and T % 2 == 0
    return {"dtype": dtype, "attention": "cudnn" if cudnn else "xla", "unroll": n_layer if on_gpu else 1}


def put(*arrays: np.ndarray) -> tuple[jax.Array, ...]:
    """Move host arrays to the device: the run's only host-to-device transfer, once per step."""
    return jax.device_put(arrays)
