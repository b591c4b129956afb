"""What the training step of train.py is on a GPU, counted in its compiled program; no GPU is needed.

python benchmarks/program.py --B 4 --T 32
python benchmarks/program.py --B 64 --T 1024 --remat full    # what a flag does to the program
python benchmarks/program.py --xla-flags=--xla_gpu_enable_triton_gemm=true

Nothing runs: kernels, bytes and operations are counted, and the time is a lower bound, the sum over the kernels of the
larger of their operations and their bytes at the full speed of an H100. Caches, launches and autotuning are left out.
"""

import collections
import dataclasses
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt import console
from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset


@dataclasses.dataclass(frozen=True)
class Flags(TrainConfig):
    """Count what the training step of these flags does on an H100. The other flags are those of train.py."""

    xla_flags: str = ""
    """For XLA, before what train.py sets by itself."""
    top: int = 0
    """List as many of the kernels that move most."""


def main(argv: list[str]) -> int:
    flags = parse(Flags, argv, default=Flags.from_preset(parse_some(Preset, argv)))
    os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} {flags.xla_flags}".strip()

    from jaxgpt.runtime import device
    from jaxgpt.runtime.xla import aot, program
    from jaxgpt.training.setup import compile_step

    os.environ.update(device.gpu_settings())
    device.select("cpu")
    compiled = compile_step(flags, aot.described("h100")[0])
    kernels, memory = program.kernels(compiled.as_text()), compiled.memory_analysis()

    data, layers, gpu = flags.data, flags.model.n_layer, program.H100.name
    print(f"B={data.B}, T={data.T}, {layers} layers, {gpu}; {os.environ['XLA_FLAGS']}\n")
    print("| kind | kernels | GB moved | TFLOP | ms at least |\n|---|---|---|---|---|")
    kinds = collections.defaultdict(list)
    for kernel in kernels:
        kinds[kernel.kind].append(kernel)
    for kind, members in [*sorted(kinds.items()), ("all", kernels)]:
        moved, flops = (sum(k.times * getattr(k, name) for k in members) for name in ("bytes", "flops"))
        bound = program.lower_bound_ms(members, program.H100)
        print(f"| {kind} | {program.runs(members)} | {moved / 1e9:.2f} | {flops / 1e12:.3f} | {bound:.2f} |")
    print(
        f"\n{memory.temp_size_in_bytes / 1e9:.2f} GB of temporary memory; donated: {memory.alias_size_in_bytes:,} bytes"
    )
    print(
        f"loops {len(program.loops(kernels))}, transposes {len(program.transposes(kernels))}, "
        f"scatters {len(program.names(kernels, 'scatter'))}, callbacks {len(program.names(kernels, 'callback'))}, "
        f"products not of bfloat16 {len(program.products_not_in(kernels, 'bf16'))}"
    )
    for kernel in sorted(kernels, key=lambda k: -k.times * k.bytes)[: flags.top]:
        print(f"{kernel.times * kernel.bytes / 1e9:7.3f} GB  {kernel.times:4d} x {kernel.name}: {kernel.result}")
    return 0


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
