"""A training step's GPU memory, the largest B that fits, and how a step scales to more GPUs.

`jaxgpt fit --gpu h100 --T 1024`. Nothing is trained: the step is compiled, XLA reports the
memory of its plan, and traffic.py counts the bytes that the GPUs exchange.
"""

import dataclasses
import math
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import rich.console
import rich.table

from jaxgpt.commands.flags import parse, parse_some, read_words
from jaxgpt.console import plural
from jaxgpt.data.datasets import choose_tokenizer
from jaxgpt.errors import UsageError
from jaxgpt.progress_bar import stage
from jaxgpt.runtime.config import PROCESS_FLAGS, mesh_flag
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.post_training import LEARNING_RATES, POLICIES
from jaxgpt.training.preset import Preset

if TYPE_CHECKING:
    from jax.sharding import Mesh

    from jaxgpt.training.setup import StepMemory

COLUMNS = ("--remat", "parameters", "optimizer", "activations", "other temporaries", "all", "largest B")
SCALING_COLUMNS = (
    "GPUs",
    "--mesh",
    "GB sent",
    "compute ms",
    "links ms",
    "waited for",
    "step ms",
    "M tokens/s",
    "efficiency",
)
SIZES = (8, 64, 256, 1024)  # of meshes
REMAT = ("none", "dots", "full")
ATTEMPTS = 8  # compilations in search of the largest B, each some ten seconds


@dataclasses.dataclass(frozen=True)
class FitConfig(TrainConfig):
    """Show a training step's GPU memory without and with --remat, and the largest B that fits.

    With --mesh also its shortest time there and on more GPUs. The other flags are those of `jaxgpt train`.
    """

    gpu: Literal["auto", "h100"] = "auto"
    """Whose memory: auto is the NVIDIA GPU of this machine; h100 is described in the package and need not be there."""


def main(argv: Sequence[str]) -> int:
    argv = read_words(FitConfig, argv)
    preset = parse_some(Preset, argv)
    if preset.init_from:
        raise UsageError("--init-from: what fits depends on the shape alone; name it by --size, or --n-layer and so on")
    config = parse(FitConfig, argv, default=FitConfig.from_preset(preset), command="fit")

    if (objective := config.preset.objective) in POLICIES:
        raise UsageError(f"--objective {objective}: its step takes what one on a text does; leave it out")
    if objective in LEARNING_RATES:
        pairs = "a pair of answers takes what two sequences of a text do"
        raise UsageError(f"--objective {objective}: {pairs}; leave it out, and double --B")
    if any(getattr(config.parallel, name) is not None for name in PROCESS_FLAGS):
        raise UsageError(
            "--coordinator, --num-processes, --process-id: one process compiles for all GPUs; leave them out"
        )

    config = config.with_vocabulary(choose_tokenizer(config.data, config.model_config().bidirectional).vocab_size)
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # XLA warns of plans that need too much: that is the question
    from jaxgpt.runtime import device
    from jaxgpt.runtime.xla import aot

    if config.gpu == "auto":
        if config.parallel.axes:
            raise UsageError(
                "--mesh: the links between GPUs are known for --gpu h100 alone; name it, or leave --mesh out"
            )
        if not device.nvidia_gpus():
            raise UsageError("no usable NVIDIA GPU here; name one that need not be there: --gpu h100")
        device.select("gpu")
        mesh, limit = aot.present()
    else:
        os.environ.update(device.gpu_settings())
        device.select("cpu")
        mesh, limit = aot.described(config.gpu, config.parallel.axes)

    terminal = rich.console.Console(width=None if sys.stdout.isatty() else 120)
    with aot.discard_compiler_files():
        terminal.print(make_memory_table(config, mesh, limit))
        if config.parallel.axes:
            terminal.print(make_scaling_table(config, config.parallel.axes))
    return 0


def make_memory_table(config: FitConfig, mesh: "Mesh", limit: int) -> rich.table.Table:
    """What a step takes of a GPU's memory with each --remat, and the largest B that fits into `limit` bytes."""
    from jaxgpt.training.setup import step_memory

    gpu = mesh.devices.flat[0].device_kind
    of_all = f" of all {mesh.size} ({config.data.B // mesh.size} on each)" if mesh.size > 1 else ""
    title = f"B={config.data.B}{of_all}, T={config.data.T} on {gpu}: GB on a GPU, of {limit / 1e9:.1f} that a run takes"
    table = rich.table.Table(*COLUMNS, title=title)
    with stage("values of --remat", len(REMAT)) as advance:
        for remat in REMAT:

            def measure(share: int, remat: str = remat) -> "StepMemory | None":  # of B, for each GPU
                with stage(f"compiling --remat {remat} --B {share * mesh.size}"):
                    return step_memory(config.replace(B=share * mesh.size, remat=remat), mesh)

            share = config.data.B // mesh.size
            memory = measure(share)
            if config.privacy.is_private:  # its rows are computed --dp-microbatch at a time, however many there are
                double, largest = memory, "any" if memory and memory.total <= limit else "none"
            else:
                double = measure(2 * share)
                best = mesh.size * find_largest_B(measure, {share: memory, 2 * share: double}, limit)
                largest = f"{best:,}" if best else "none"
            parts = ["-"] * 5
            if memory and double:
                activations = min(memory.temporary, double.temporary - memory.temporary)  # what grows with B
                temporaries = memory.temporary - activations
                sizes = memory.parameters, memory.optimizer, activations, temporaries, memory.total
                parts = [f"{size / 1e9:.2f}" for size in sizes]
            table.add_row(remat, *parts, largest)
            advance(1)
    return table


def make_scaling_table(config: FitConfig, axes: dict[str, int]) -> rich.table.Table:
    """The least time of a step on one GPU, on the mesh, and on meshes larger along data, with B in proportion."""
    from jaxgpt.runtime.xla import aot, traffic
    from jaxgpt.training.setup import compile_step

    size = math.prod(axes.values())
    share = config.data.B // size  # sequences of a GPU
    sequences = f"{plural(share, 'sequence')} of {plural(config.data.T, 'token')}"
    title = f"{sequences} for each GPU, hosts of {traffic.Links.per_host}: at best"
    table = rich.table.Table(*SCALING_COLUMNS, title=title)
    sizes = [n for n in (size, *SIZES) if n >= size and n % size == 0]
    larger = {n: dict(sorted((axes | {"data": axes.get("data", 1) * n // size}).items())) for n in sizes}
    meshes, single_gpu_ms = {1: {"data": 1}} | larger, 0.0
    with stage("sizes of the mesh", len(meshes)) as advance:
        for gpus, shape in meshes.items():
            flags = config.replace(B=share * gpus, mesh=mesh_flag(shape))
            with stage(f"compiling --mesh {mesh_flag(shape)} --B {share * gpus}"):
                mesh, _ = aot.described(config.gpu, shape)
                step = traffic.step(compile_step(flags, mesh).as_text())
            single_gpu_ms = single_gpu_ms or step.ms
            times = step.compute_ms, step.communication_ms, step.exposed_ms, step.ms
            speed = share * gpus * config.data.T / step.ms / 1e3  # million tokens a second
            cells = f"{gpus:,}", mesh_flag(shape), f"{step.sent / 1e9:.2f}", *(f"{ms:.1f}" for ms in times)
            table.add_row(*cells, f"{speed:,.1f}", f"{single_gpu_ms / step.ms:.0%}")
            advance(1)
    return table


def find_largest_B(
    measure: Callable[[int], "StepMemory | None"], known: dict[int, "StepMemory | None"], limit: int
) -> int:
    """A B whose step fits into `limit` bytes, the largest to within 2 %; 0 if one sequence does not fit.

    A step's memory grows nearly linearly with B: each attempt is where the line through the two nearest known values
    meets the limit.

    Args:
      measure: the memory of a step with this B; None: XLA found no plan.
      known: the memory of two values of B.
    """
    known = {B: memory.total if memory else math.inf for B, memory in known.items()}
    for _ in range(ATTEMPTS):
        fits = max((B for B, total in known.items() if total <= limit), default=0)
        too_large = min((B for B, total in known.items() if total > limit), default=math.inf)
        if too_large - fits <= max(1, fits // 50):
            break
        if known.get(too_large) == math.inf:
            B = (fits + too_large) // 2
        else:
            a, b = sorted(sorted(known, key=lambda B: abs(known[B] - limit))[:2])
            slope = max(1, (known[b] - known[a]) / (b - a))
            B = min(max(fits + 1, int(a + (limit - known[a]) / slope)), too_large - 1)
        memory = measure(B)
        known[B] = memory.total if memory else math.inf
    return max((B for B, total in known.items() if total <= limit), default=0)
