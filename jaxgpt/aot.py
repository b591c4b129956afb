"""The train step compiled ahead of time for a GPU, which need not be there: the program can be read, and its plan."""

import dataclasses
import re
from pathlib import Path
from typing import Any, Literal

import jax

from jaxgpt.config import TrainConfig
from jaxgpt.device import MEMORY_SHARE
from jaxgpt.errors import UsageError
from jaxgpt.training import training


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


def described(gpu: Literal["h100"]) -> tuple[jax.Device, int]:
    """A GPU that programs can be compiled for, and how many bytes of its memory a run takes.

    device.gpu_settings belong into the environment before JAX starts.

    Raises:
      UsageError: JAX's CUDA plug-in, which does the compiling, is not installed.
    """
    from jax.experimental import topologies  # which takes half a second, and is needed here alone

    description = Path(__file__).with_name(f"{gpu}_sxm.txtpb").read_text()
    try:
        topology = topologies.get_topology_desc(platform="cuda", target_config=description, topology="1x1x1")
    except (NotImplementedError, RuntimeError, ValueError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(
            f"{gpu}: no CUDA plug-in of JAX ({reason}) to compile for it; pip install 'jax[cuda12]'"
        ) from None
    memory = int(re.search(r"device_memory_size: (\d+)", description)[1])
    return topology.devices[0], int(MEMORY_SHARE * memory)


def present() -> tuple[jax.Device, int]:
    """The selected device, and how many bytes of its memory a run takes."""
    first = jax.devices()[0]
    return first, first.memory_stats()["bytes_limit"]


def compiled_step(config: TrainConfig, on: jax.Device) -> jax.stages.Compiled:
    """The train step that train.py makes of these flags, compiled for a device."""
    static = training(config, on)
    tokens = jax.ShapeDtypeStruct((config.B * config.accumulate, config.T), "int32")
    return static.step.lower(*_placed((static.shapes(), (tokens, tokens)), on)).compile()


def memory(config: TrainConfig, on: jax.Device) -> Memory | None:
    """What that step takes; None if XLA finds no plan for it."""
    state = training(config, on).shapes()
    parameters, optimizer = (
        sum(x.size * x.dtype.itemsize for x in jax.tree.leaves(part)) for part in (state.model, state.opt_state)
    )
    try:
        plan = compiled_step(config, on).memory_analysis()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    return Memory(parameters, optimizer, plan.temp_size_in_bytes + plan.output_size_in_bytes - plan.alias_size_in_bytes)


def _placed(tree: Any, on: jax.Device) -> Any:
    here = jax.sharding.SingleDeviceSharding(on)
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype, sharding=here), tree)
