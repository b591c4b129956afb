"""The one door to devices: which platform a run takes, and the explicit transfer of each batch."""

import contextlib
import ctypes
import logging
import math
import os
import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import jax

from jaxgpt import console
from jaxgpt.console import plural
from jaxgpt.data.cache import make_folder
from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.files import require_no_links
from jaxgpt.progress_bar import stage

try:
    import resource
except ImportError:  # Windows
    resource = None

ROOT = Path("/")  # of the files in which the system says how much memory there is
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter")
SPARE_ADDRESSES = 0.7e9  # bytes for the libraries' threads and what they compile
MEMORY_SHARE = 0.9  # of a GPU's memory, which JAX takes at its start
# JAX's own settings that decide which weights a seed makes, or other numbers, and those with which no step can run.
SETTINGS = {
    "jax_default_prng_impl": "threefry2x32",
    "jax_threefry_partitionable": True,
    "jax_random_seed_offset": 0,
    "jax_high_dynamic_range_gumbel": False,
    "jax_enable_x64": False,
    "jax_default_matmul_precision": None,
    "jax_numpy_dtype_promotion": "standard",
    "jax_disable_most_optimizations": False,
    "jax_disable_jit": False,
    "jax_debug_nans": False,
    "jax_debug_infs": False,
    "jax_error_checking_behavior_nan": "ignore",
    "jax_error_checking_behavior_divide": "ignore",
    "jax_error_checking_behavior_oob": "ignore",
    "jax_transfer_guard": None,
    "jax_no_tracing": False,
    "jax_no_execution": False,
    "jax_scan3": False,
    "eager_constant_folding": False,
}


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


def select(device: Literal["auto", "gpu", "cpu"], deterministic: bool = False) -> str:
    """Settle where this process runs, start JAX there, and describe it in a few words.

    A JAX_PLATFORMS that the user has set decides for "auto". `deterministic` has a GPU repeat its results to the bit.

    Raises:
      UsageError: "gpu" was demanded, and there is none that JAX can use; or JAX_PLATFORMS names what is not there.
    """
    fix_settings()
    reason = ""
    if device == "cpu":
        jax.config.update("jax_platforms", "cpu")
    elif device == "gpu" or not jax.config.jax_platforms:
        gpus = nvidia_gpus()
        jax.config.update("jax_platforms", "cuda,cpu" if gpus else "cpu")
        reason = "" if gpus else "no usable NVIDIA GPU: its driver was not found or lists none"
    if jax.config.jax_platforms != "cpu":
        os.environ.update(gpu_settings(deterministic))  # read when JAX starts, which is now
    with stage("starting JAX"):
        first, complaint = _start()
    reason = reason or complaint
    if not reason and first and first.platform == "cpu" and "cuda" in jax.config.jax_platforms:
        reason = "JAX can't use the GPU: it was installed without CUDA (pip install 'jax[cuda12]')"
    if device == "gpu" and (first is None or first.platform != "gpu"):
        raise UsageError(f"--device gpu: {reason}; see whether nvidia-smi lists one, or use --device cpu")
    if first is None:
        raise UsageError(f"JAX can't start on {jax.config.jax_platforms}: {reason}; use --device cpu")
    if first.platform == "gpu":
        return first.device_kind
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"CPU, {plural(cores, 'core')}" + (f" ({reason})" if reason else "")


def fix_settings() -> None:
    """Give JAX its usual settings where the environment has others; a note names them."""
    current = jax.config.values
    changed = [
        name for name in SETTINGS if name.upper() in os.environ and current.get(name) not in (None, SETTINGS[name])
    ]
    for name in changed:
        jax.config.update(name, SETTINGS[name])
    if changed:
        names = ", ".join(map(str.upper, changed))
        console.note(f"{names}: not used, so that the seed and the flags alone decide the numbers")


def _start() -> tuple[jax.Device | None, str]:
    """JAX's first device, None if it has none, and what went wrong on the way, without JAX's tracebacks."""
    complaints = []

    def record_complaint(record: logging.LogRecord) -> bool:
        complaints.append(record.exc_info[1] if record.exc_info else record.getMessage())
        return False

    logger = logging.getLogger("jax._src.xla_bridge")
    logger.addFilter(record_complaint)
    first = None
    try:
        first = jax.devices()[0]
    except Exception as error:  # JAX raises RuntimeError and AssertionError here
        complaints.append(error)
    finally:
        logger.removeFilter(record_complaint)
    return first, "".join(f"JAX can't use the GPU: {str(c).splitlines()[0]}" for c in complaints[:1] if str(c))


@contextlib.contextmanager
def memory_errors(hint: str) -> Iterator[None]:
    """Within this context, running out of memory, on the host or the device, is one line: RetryableError."""
    try:
        yield
    except (MemoryError, jax.errors.JaxRuntimeError) as error:
        first_line = (str(error).splitlines() or ["of the host"])[0]
        # YNNPACK, which multiplies on a CPU, says no more when it gets none.
        wants_memory = re.search("out of memory|YNNPACK operation failed", str(error), re.IGNORECASE)
        if isinstance(error, jax.errors.JaxRuntimeError) and not wants_memory:
            raise
        raise RetryableError(f"out of memory: {first_line}; {hint}") from None


def require_memory(plan: Any, hint: str, devices: int = 1) -> None:
    """Refuse a compiled program that takes more memory than is free. On a CPU the system would kill it without a word.

    Args:
      plan: its `memory_analysis()`; the arguments that it takes over are not counted.
      hint: flags that take less memory, for the message.
      devices: of this process; those of a CPU have one memory in common.

    Raises:
      RetryableError: with what it takes, what is free, and the flags.
    """
    if plan is None:
        return
    needed = extra_bytes(plan)
    if jax.default_backend() == "cpu":
        needed *= 1.1 * devices  # the buffers of the libraries that multiply are not in the plan
    free = free_memory()
    if needed > free:
        raise RetryableError(
            f"out of memory: {needed / 1e9:.2f} GB are needed, and {free / 1e9:.2f} GB are free; {hint}"
        )


def extra_bytes(plan: Any) -> int:
    """What a compiled program takes of a device's memory beside its arguments, by its `memory_analysis()`."""
    return plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes


def memory_limit() -> float:
    """Bytes of a selected GPU that JAX may take; infinite on a CPU, whose devices have one memory in common."""
    first = jax.local_devices()[0]
    stats = first.memory_stats() if first.platform == "gpu" else None
    return (stats or {}).get("bytes_limit", math.inf)


def free_memory() -> float:
    """Free bytes of the selected device; infinite where they are unknown."""
    first = jax.local_devices()[0]
    if first.platform == "gpu":
        memory = first.memory_stats() or {}  # an allocator of the user's choice may not count
        return memory.get("bytes_limit", math.inf) - memory.get("bytes_in_use", 0)
    limits = [math.inf]
    with contextlib.suppress(OSError, ValueError, KeyError):  # Linux
        lines = (ROOT / "proc/meminfo").read_text().splitlines()
        kilobytes = {name: int(value.split()[0]) for name, _, value in (line.partition(":") for line in lines)}
        limits.append(1024 * (kilobytes["MemAvailable"] + kilobytes["SwapFree"]))
    with contextlib.suppress(OSError, ValueError):  # a container's limit (cgroup v2)
        group = ROOT / "sys/fs/cgroup"
        used = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        limits.append(int((group / "memory.max").read_text()) - int(used["anon"]))
    return min(*limits, free_addresses())


def free_addresses() -> float:
    """Bytes that this process may still map (ulimit -v); infinite without such a limit, or where it is unknown."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        limit, _ = resource.getrlimit(resource.RLIMIT_AS)
        pages = int((ROOT / "proc/self/statm").read_text().split()[0])
        return math.inf if limit == resource.RLIM_INFINITY else limit - pages * resource.getpagesize()
    return math.inf


def require_addresses(size: int) -> None:
    """Refuse a limit (ulimit -v) that this many bytes and the libraries' threads would reach: there they abort.

    Raises:
      RetryableError: with what is needed and what is free.
    """
    needed, free = size + SPARE_ADDRESSES, free_addresses()
    if needed > free:
        left = f"{needed / 1e9:.2f} GB are needed, and {free / 1e9:.2f} GB are left of the process's limit"
        raise RetryableError(f"out of memory: {left}; raise it (ulimit -v)")


def compute(
    dtype: Literal["auto", "float32", "bfloat16"],
    n_layer: int,
    head_size: int | None,
    T: int,
    remat: Literal["none", "dots", "full"] = "none",
    first: jax.Device | None = None,
) -> dict[str, Any]:
    """What a device, by default the selected one, decides of a ModelConfig: dtype, attention, unroll and remat.

    The layers are unrolled: that spares copies of their weights and gradients, and on a GPU one loop-free program is
    one CUDA graph. But only in a loop does XLA's CPU backend compute again what it is not to keep.

    Args:
      head_size: of attention; None: the model has none.
      T: tokens of a sequence.
    """
    first = first or jax.devices()[0]
    on_gpu = first.platform == "gpu"
    ampere = on_gpu and float(first.compute_capability) >= 8.0  # the first with bfloat16, and with flash attention
    if dtype == "auto":
        dtype = "bfloat16" if ampere else "float32"
    settings = {"dtype": dtype, "unroll": n_layer if on_gpu or remat == "none" else 1, "remat": remat}
    if head_size is None:
        return settings
    cudnn = ampere and dtype == "bfloat16" and head_size % 8 == 0 and head_size <= 128 and T % 2 == 0
    return settings | {"attention": "cudnn" if cudnn else "xla"}


def gpu_settings(deterministic: bool = False) -> dict[str, str]:
    """The environment that programs for a GPU get where the user has not decided otherwise."""
    flags = os.environ.get("XLA_FLAGS", "")
    # cuBLAS, which adds biases and GELU as it goes; the other way, Triton, splits the small products and adds up after.
    wanted_flags = ["--xla_gpu_enable_triton_gemm=false"]
    if jax.__version_info__ < (0, 12):  # else an embedding's gradient is summed by compare and swap
        wanted_flags.append("--xla_backend_extra_options=-nvptx-allow-ftz-atomics")
    else:  # else half of the products read their layer's weights in place, and for the others they are copied once more
        wanted_flags.append("--xla_gpu_enable_dynamic_slice_fusion=false")
    # Many GPUs: sums of gradients that are not put together are moved one by one, each while the next is computed.
    wanted_flags += [f"--xla_gpu_{kind}_combine_threshold_bytes=1000000" for kind in COLLECTIVES]
    if deterministic:  # the sums of scatters and of attention's backward pass in one order
        wanted_flags.append("--xla_gpu_deterministic_ops=true")
    missing = [flag for flag in wanted_flags if flag.split("=")[0] not in flags]
    settings = {"XLA_FLAGS": " ".join([flags, *missing]).strip()}
    if not any("CLIENT_MEM_FRACTION" in name for name in os.environ):  # it has two names; JAX itself takes 0.75
        settings["XLA_PYTHON_CLIENT_MEM_FRACTION"] = str(MEMORY_SHARE)
    return settings


def keep_compiled(folder: Path) -> None:
    """Keep compiled programs in a folder, so that the next start need not compile; the user's JAX_... settings win.

    A folder that can't be written, belongs to another user, or has links, through which JAX would write, costs the
    next start some seconds; so does a program that a kill left half written, or one for which the disk has no room.
    """
    warnings.filterwarnings("ignore", "Error (reading|writing) persistent compilation cache", UserWarning)
    if jax.config.jax_compilation_cache_dir:
        return
    try:
        require_no_links(folder)
        make_folder(folder)
    except UsageError as error:
        return console.note(str(error))
    except OSError:
        return
    if not os.access(folder, os.W_OK | os.X_OK):
        return
    jax.config.update("jax_compilation_cache_dir", str(folder))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.2)


def put(arrays: Any, to: jax.sharding.Sharding | None = None) -> Any:
    """Move a tree of host arrays to the device: the run's only host-to-device transfer, once per step.

    Args:
      to: which devices, and what of it each gets; None: the default device. Where they are of several processes, each
        process gives the part that is its own devices'.
    """
    if to is None or to.is_fully_addressable:
        return jax.device_put(arrays, to)
    with jax.transfer_guard_host_to_device("allow"):  # JAX does not count this as asked for; it is
        return jax.tree.map(lambda array: jax.make_array_from_process_local_data(to, array), arrays)
