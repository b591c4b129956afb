"""Where a run trains: the device, the mesh of many, and which of several processes this one is. No JAX."""

import dataclasses
import math
import re
from collections.abc import Mapping
from typing import Literal

from jaxgpt.errors import UsageError, require


@dataclasses.dataclass(frozen=True)
class ParallelConfig:
    """Where a run trains, and on how many."""

    device: Literal["auto", "gpu", "cpu"] = "auto"
    """Where to run; auto takes an NVIDIA GPU if there is a usable one."""
    deterministic: bool = False
    """On a GPU, only operations that repeat to the bit; slower. On a CPU all of them do."""
    mesh: str = "auto"
    """Many devices: data=8, fsdp=8 (each holds a share of the state), data=2,fsdp=4; auto: data, or fsdp to fit."""
    coordinator: str | None = None
    """A run of several processes: HOST:PORT at which the first one listens. Under SLURM's srun it is known."""
    num_processes: int | None = None
    """How many processes; srun and mpirun set it too."""
    process_id: int | None = None
    """Which of them this is, from 0; srun, mpirun and an indexed job of Kubernetes set it too."""
    profile: int = dataclasses.field(default=0, metadata={"observes": True})
    """Trace this many steps, from the fourth on, into --out/profile; 0: none."""

    def __post_init__(self):
        require(0 <= self.profile < 2**31, "profile", self.profile, "from 0 to 2**31 - 1")
        _ = self.axes

    @property
    def axes(self) -> dict[str, int] | None:
        """--mesh as sizes by axis; None: auto."""
        if self.mesh == "auto":
            return None
        match = re.fullmatch(r"(data|fsdp)=([1-9]\d{0,5})(?:,(?!\1)(data|fsdp)=([1-9]\d{0,5}))?", self.mesh)
        if not match:
            raise UsageError(f"--mesh {self.mesh}: not a mesh; use auto, data=8, fsdp=8, data=2,fsdp=4 or the like")
        names, sizes = match.groups()[::2], match.groups()[1::2]
        return {name: int(size) for name, size in zip(names, sizes, strict=True) if name}


PROCESS_FLAGS = ("coordinator", "num_processes", "process_id")


def require_divisible(axes: Mapping[str, int], B: int, widths: Mapping[str, int]) -> None:
    """Refuse a mesh whose devices can't have equal shares of a batch's sequences or of the model's widths, by flag."""
    devices, fsdp = math.prod(axes.values()), axes.get("fsdp", 1)
    mesh = f"--mesh {mesh_flag(axes)}"
    if B % devices:
        raise UsageError(f"--B {B} must be divisible by the {devices} devices of {mesh}: use a multiple of {devices}")
    for name, width in widths.items():
        if width % fsdp:
            flag = f"--{name.replace('_', '-')} {width}"
            raise UsageError(f"{flag} must be divisible by the fsdp axis of {mesh}: use a divisor of it")


def mesh_flag(axes: Mapping[str, int]) -> str:
    """A mesh as --mesh has it: data=2,fsdp=4."""
    return ",".join(f"{name}={size}" for name, size in axes.items())
