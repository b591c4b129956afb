"""What the GPUs of a mesh send each other in one step, counted in the compiled program, and the time of that step.

Nothing has run: the times are those of kernels and links at their full speed, so a step takes longer than it says here.
"""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaxgpt.runtime.xla import program
from jaxgpt.runtime.xla.hlo import Instruction, entry

KINDS = ("all-reduce", "all-gather", "reduce-scatter")


@dataclass(frozen=True)
class Links:
    """How GPUs reach each other; bytes a second that one sends."""

    inside: float = 450e9
    """Within a host: NVLink of an H100 (NVIDIA's data sheet: 900 GB/s, both directions)."""
    outside: float = 50e9
    """Between hosts: one 400 Gb/s adapter for each GPU, as in a DGX H100."""
    per_host: int = 8
    latency_ms: float = 0.02
    """Of one collective within a host, and as much again for each doubling of the hosts that it spans: assumed."""


@dataclass(frozen=True)
class Collective:
    """One of a step's collectives."""

    name: str
    kind: str
    """One of KINDS."""
    bytes: int
    """The size of the full array: the sum, or the gathered result."""
    groups: tuple[tuple[int, ...], ...]
    """Devices that take part, by their numbers in the mesh: each group has its own."""
    times: int
    """Runs in one step."""
    hidden_ms: float
    """The lower bound of the kernels that run meanwhile; 0: the GPU waits."""

    @property
    def size(self) -> int:
        """Devices of a group."""
        return len(self.groups[0])

    @property
    def sent(self) -> float:
        """Bytes that a device sends in one run, by the best algorithms (Patarasuk & Yuan, 2009): the full array but the
        device's share, and twice that for an all-reduce, which is a reduce-scatter and an all-gather."""
        return self.bytes * (self.size - 1) / self.size * (2 if self.kind == "all-reduce" else 1)

    def ms(self, links: Links) -> float:
        """The time of one run. Members of a group on one host share that host's adapters."""
        hosts = {device // links.per_host for device in self.groups[0]}
        outside = links.outside * self.size / len(hosts)
        bytes_per_s = links.inside if len(hosts) == 1 else min(links.inside, outside)
        return links.latency_ms * (1 + math.log2(len(hosts))) + 1e3 * self.sent / bytes_per_s


@dataclass(frozen=True)
class Step:
    """A step on a mesh, at best.

    Attributes:
      sent: bytes that a GPU sends.
      compute_ms: all kernels but the collectives.
      communication_ms: all collectives, one after another.
      exposed_ms: the part of them that no kernel runs beside.
    """

    sent: float
    compute_ms: float
    communication_ms: float
    exposed_ms: float

    @property
    def ms(self) -> float:
        return self.compute_ms + self.exposed_ms


def step(hlo: str, gpu: program.Gpu = program.H100, links: Links = Links()) -> Step:
    """The time of a compiled step."""
    step_collectives = collectives(hlo, gpu)
    computing = [kernel for kernel in program.kernels(hlo) if kernel.kind != "collective"]
    times = [(c.times, c.ms(links), c.hidden_ms) for c in step_collectives]
    return Step(
        sent=sum(c.times * c.sent for c in step_collectives),
        compute_ms=program.lower_bound_ms(computing, gpu),
        communication_ms=sum(n * ms for n, ms, _ in times),
        exposed_ms=sum(n * max(0.0, ms - hidden) for n, ms, hidden in times),
    )


def collectives(hlo: str, gpu: program.Gpu = program.H100) -> list[Collective]:
    """The collectives of a program. Those of one device alone, which move nothing, are left out."""
    bounds = {kernel.name: program.lower_bound_ms([kernel], gpu) / kernel.times for kernel in program.kernels(hlo)}
    instructions: list[tuple[Instruction, int]] = []
    hidden: dict[str, float] = {}
    in_flight: set[str] = set()

    def walk(computation: Sequence[Instruction], times: int) -> None:
        for op in computation:
            if op.opcode in ("while", "call"):
                walk(op.body, times * op.trips)
            elif op.opcode in KINDS:
                instructions.append((op, times))
                hidden[op.name] = 0.0
                if op.started and not re.search(r'"is_sync": ?true', op.attributes):
                    in_flight.add(op.name)
            elif op.opcode in ("all-to-all", "collective-permute", "collective-broadcast"):
                raise ValueError(f"{op.name}: no step of ours has this, and what it sends is not counted")
            elif op.opcode.endswith("-done"):
                in_flight.discard(op.operands[0].name)
            else:
                for name in in_flight:
                    hidden[name] += bounds.get(op.name, 0.0)

    walk(entry(hlo), 1)
    all_collectives = [
        Collective(op.name, op.opcode, _bytes(op), _groups(op), times, hidden[op.name]) for op, times in instructions
    ]
    return [collective for collective in all_collectives if collective.size > 1]


def _bytes(op: Instruction) -> int:
    """The size of the operands or of the results, whichever is larger."""
    return max(sum(s.bytes for s in op.shapes), sum(s.bytes for x in op.operands for s in x.shapes))


def _groups(op: Instruction) -> tuple[tuple[int, ...], ...]:
    """In one of three spellings.

    {{0,1},{2,3}}; [2,2]<=[2,2]T(1,0), the numbers from 0 in a table, which is turned and cut into two rows; or
    mesh['a'=2,'b'=2], device_ids=([2,2]T(1,0)) {'b'}, such a table as a mesh, and the axes along which groups lie.
    """
    if listed := re.search(r"replica_groups=\{(\{[\d,{}]*\})\}", op.attributes):
        return tuple(tuple(_numbers(group)) for group in re.findall(r"\{([\d,]+)\}", listed[1]))
    if short := re.search(r"replica_groups=\[([\d,]+)\]<=\[([\d,]+)\](?:T\(([\d,]+)\))?", op.attributes):
        groups = _table(short[2], short[3]).reshape(_numbers(short[1]))
    elif named := re.search(
        r"replica_groups=mesh\[([^\]]*)\](?:, device_ids=\(\[([\d,]+)\](?:T\(([\d,]+)\))?\))? \{([^}]*)\}",
        op.attributes,
    ):
        axes = {name: int(size) for name, size in re.findall(r"'(\w+)'=(\d+)", named[1])}
        along = [list(axes).index(name) for name in re.findall(r"'(\w+)'", named[4])]
        table = _table(named[2] or str(math.prod(axes.values())), named[3]).reshape(list(axes.values()))
        size = math.prod(table.shape[axis] for axis in along)
        groups = np.moveaxis(table, along, range(-len(along), 0)).reshape(-1, size)
    else:
        raise ValueError(f"no devices are named: {op.name}, {op.attributes[:200]}")
    return tuple(tuple(group) for group in groups.tolist())


def _table(sizes: str, turned: str | None) -> np.ndarray:
    table = np.arange(math.prod(_numbers(sizes))).reshape(_numbers(sizes))
    return table.transpose(_numbers(turned)) if turned else table


def _numbers(text: str) -> list[int]:
    return [int(n) for n in text.split(",")]
