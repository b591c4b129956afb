"""The train step compiled ahead of time for a GPU, which need not be there: the program can be read, and its plan."""

import dataclasses
import math
import re
import warnings
from pathlib import Path
from typing import Literal

import jax
from jax.sharding import Mesh

from jaxgpt.errors import UsageError
from jaxgpt.runtime.device import MEMORY_SHARE, memory_limit
from jaxgpt.runtime.mesh import device_bytes, make_mesh, sequences, single_device
from jaxgpt.runtime.xla.traffic import Links
from jaxgpt.training.config import TrainConfig, mesh_flag
from jaxgpt.training.setup import training


@dataclasses.dataclass(frozen=True)
class Memory:
    """What a step takes of a device's memory, in bytes.

    Attributes:
      parameters, optimizer: there before and after the step.
      temporary: what lives only within it: activations, gradients, copies in the compute dtype.
    """

    parameters: int
    optimizer: int
    temporary: int

    @property
    def total(self) -> int:
        return self.parameters + self.optimizer + self.temporary


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


def compiled_step(config: TrainConfig, on: Mesh) -> jax.stages.Compiled:
    """The train step that train.py makes of these flags, compiled for a mesh."""
    static = training(config, on)
    B, T, n = config.B * config.accumulate, config.T, config.predict_tokens
    x, y = (
        jax.ShapeDtypeStruct(shape, "int32", sharding=sequences(on))
        for shape in ((B, T), (B, T) if n == 1 else (B, n, T))
    )
    lowered = static.step.lower(static.shapes, (x, y), static.fixed)
    with warnings.catch_warnings():  # JAX's cache keeps what it then can't read for a GPU that is not there
        warnings.filterwarnings("ignore", "Error reading persistent compilation cache")
        return lowered.compile()


def memory(config: TrainConfig, on: Mesh) -> Memory | None:
    """What that step takes of one device; None if XLA finds no plan for it."""
    static = training(config, on)
    parameters = device_bytes((static.shapes.model, static.fixed.base))
    optimizer = device_bytes(static.shapes.opt_state)
    try:
        plan = compiled_step(config, on).memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return Memory(parameters, optimizer, plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes)
