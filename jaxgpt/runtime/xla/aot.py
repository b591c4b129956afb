"""GPUs that need not be there: a mesh of them, for which programs can be compiled and then read."""

import contextlib
import functools
import math
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from jax.sharding import Mesh

from jaxgpt.errors import UsageError
from jaxgpt.runtime.config import mesh_flag
from jaxgpt.runtime.device import MEMORY_SHARE, memory_limit
from jaxgpt.runtime.mesh import make_mesh, single_device
from jaxgpt.runtime.xla.traffic import Links
from jaxgpt.signals import before_exit


def described(gpu: Literal["h100"], axes: dict[str, int] | None = None) -> tuple[Mesh, int]:
    """A mesh of GPUs that programs can be compiled for, and how many bytes of the memory of one a run takes.

    device.gpu_settings belong into the environment before JAX starts.

    Raises:
      UsageError: JAX's CUDA plug-in, which does the compiling, is not installed.
    """
    from jax.experimental import topologies  # which takes half a second, and is needed here single_device

    description = Path(__file__).with_name(f"{gpu}_sxm.txtpb").read_text()
    size = math.prod((axes or {}).values())
    hosts = max(1, size // Links.per_host)
    if size > Links.per_host and size % Links.per_host:
        raise UsageError(
            f"--mesh {mesh_flag(axes)}: hosts have {Links.per_host} GPUs; use a multiple of {Links.per_host}"
        )
    try:
        topology = topologies.get_topology_desc(
            platform="cuda", target_config=description, topology=f"1x{hosts}x{size // hosts}"
        )
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{gpu}: no CUDA plug-in of JAX ({reason}) to compile for it; pip install 'jax[cuda12]'"
        ) from None
    memory = int(re.search(r"device_memory_size: (\d+)", description)[1])
    return make_mesh(axes or {}, topology.devices), int(MEMORY_SHARE * memory)


def present() -> tuple[Mesh, int]:
    """The selected device, and how many bytes of its memory a run takes."""
    return single_device(), int(memory_limit())


@contextlib.contextmanager
def discard_compiler_files() -> Iterator[None]:
    """A context in which what XLA and its ptxas write to TMPDIR goes to a folder that the end, or a signal, deletes."""
    before = os.environ.get("TMPDIR")
    with tempfile.TemporaryDirectory(prefix="jaxgpt-compile-", ignore_cleanup_errors=True) as folder:
        os.environ["TMPDIR"] = folder
        try:
            with before_exit(functools.partial(_delete_before_exit, folder)):
                yield
        finally:
            os.environ.pop("TMPDIR")
            os.environ.update({"TMPDIR": before} if before else {})


def _delete_before_exit(folder: str) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)  # XLA, still at work, may miss a file and call that fatal
    shutil.rmtree(folder, ignore_errors=True)
