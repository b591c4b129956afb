"""A training step of GPT-2 124M beside PyTorch: the same shapes, batches and optimizer, interleaved.

pip install torch transformers
python benchmarks/training.py
python benchmarks/training.py --shapes 64x1024 --dtypes bfloat16 --contestants jaxgpt    # on a GPU

Every contestant is a process of its own, and they take turns: one step each, round after round. Those of a shape live
at once and take 3 to 5 GB each. The weights are random, and so are the tokens, the same for all. jaxgpt's step includes
the norm of the gradient, PyTorch's does not; benchmarks/contestants.py has both.

On Linux, train.py has malloc keep freed memory (jaxgpt/runtime/allocator.py). So has "jaxgpt" here; "eager-tuned" is
PyTorch with the same, and "jaxgpt-plain" is jaxgpt without.

On a GPU a turn is 20 steps, of which only the last is waited for; the memory is the GPU's; the rows about malloc are
left out, and PyTorch's too if its torch has no CUDA. MFU counts 6*N + 12*L*T*C operations a token (PaLM, appendix B;
N without the position embedding, as in nanoGPT). The bandwidth floor is the time to read and write the float32
parameters and both moments once (24 bytes a parameter), and to read the weights twice in the compute dtype.
"""

import concurrent.futures
import dataclasses
import importlib.util
import multiprocessing
import os
import statistics
import sys
from multiprocessing.connection import Connection
from typing import Any, Literal

import tyro
from contestants import machine, work

Contestant = Literal["jaxgpt", "jaxgpt-plain", "eager", "eager-tuned", "compile"]
LABELS: dict[Contestant, str] = {
    "jaxgpt": "jaxgpt",
    "jaxgpt-plain": "jaxgpt, malloc as it is",
    "eager": "PyTorch eager",
    "eager-tuned": "PyTorch eager, malloc tuned likewise",
    "compile": "PyTorch, torch.compile",
}
SPAWN = multiprocessing.get_context("spawn")
PARAMETERS, L, C = 124_439_808, 12, 768
# By JAX's name of the GPU: dense products in bfloat16 and in float32 (not TF32), in operations/s, and its memory's
# bytes/s, as tables quote NVIDIA's data sheets; none of them was measured. 0: it has none.
PEAKS = {
    "NVIDIA A10": (125e12, 31.2e12, 0.6e12),
    "NVIDIA A100-PCIE-40GB": (312e12, 19.5e12, 1.555e12),
    "NVIDIA A100-SXM4-40GB": (312e12, 19.5e12, 1.555e12),
    "NVIDIA A100 80GB PCIe": (312e12, 19.5e12, 1.935e12),
    "NVIDIA A100-SXM4-80GB": (312e12, 19.5e12, 2.039e12),
    "NVIDIA H100 PCIe": (756e12, 51e12, 2.0e12),
    "NVIDIA H100 80GB HBM3": (989.4e12, 66.9e12, 3.35e12),
    "NVIDIA H200": (989.4e12, 66.9e12, 4.8e12),
    "NVIDIA L4": (121e12, 30.3e12, 0.3e12),
    "NVIDIA L40S": (362e12, 91.6e12, 0.864e12),
    "NVIDIA GeForce RTX 3090": (71e12, 35.6e12, 0.936e12),
    "NVIDIA GeForce RTX 4090": (165.2e12, 82.6e12, 1.008e12),
    "Tesla T4": (0, 8.1e12, 0.32e12),
}


@dataclasses.dataclass
class Flags:
    """Time a training step of GPT-2 124M beside PyTorch."""

    shapes: tuple[str, ...] = ("4x32", "4x256", "1x1024")
    """Batches, as BxT."""
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = ("float32", "bfloat16")
    """Compute dtypes."""
    steps: int = 7
    """Timed turns of each contestant, after a step that compiles and two more."""
    contestants: tuple[Contestant, ...] = tuple(LABELS)
    """Who takes part. Ratios are to eager."""


def main(flags: Flags) -> None:
    names = list(flags.contestants)
    missing = [package for package in ("torch", "transformers") if not importlib.util.find_spec(package)]
    if missing and not all(name.startswith("jaxgpt") for name in names):
        sys.exit("PyTorch is missing: pip install torch transformers, or use --contestants jaxgpt jaxgpt-plain")
    with concurrent.futures.ProcessPoolExecutor(1, SPAWN) as process:
        versions, gpu, pytorch_too = process.submit(machine).result()
    if gpu:
        names = [name for name in names if name == "jaxgpt" or (pytorch_too and name in ("eager", "compile"))]
        if len(names) > 1:
            os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # the others need some of the GPU's memory
    print(f"GPT-2 124M, training, random tokens; {versions}")
    print(f"medians of {flags.steps} interleaved turns; jaxgpt's step includes the norm of the gradient\n")
    heads = ["B x T", "dtype", "", "ms a step", "lowest", "tokens/s", "times eager", "peak memory, GB", "times eager"]
    heads += ["MFU", "of bandwidth floor"] if gpu else []
    print("|", " | ".join(heads), "|\n|" + "---|" * len(heads))
    for shape in flags.shapes:
        B, T = map(int, shape.split("x"))
        for dtype in flags.dtypes:
            results = compete(names, B, T, dtype, flags.steps, turn=20 if gpu else 1)
            eager = results.get("eager")
            for name, (seconds, lowest, memory) in results.items():
                speed = f"{eager[0] / seconds:.2f}" if eager else ""
                size = f"{memory / eager[2]:.2f}" if eager and eager[2] else ""
                cells = [f"{B} x {T}", dtype, LABELS[name], f"{1000 * seconds:,.1f}", f"{1000 * lowest:,.1f}"]
                cells += [f"{B * T / seconds:,.0f}", speed, f"{memory / 1e9:.2f}", size]
                cells += utilization(gpu, B, T, dtype, seconds) if gpu else []
                print("|", " | ".join(cells), "|", flush=True)


def compete(
    names: list[Contestant], B: int, T: int, dtype: str, steps: int, turn: int
) -> dict[Contestant, tuple[float, float, int]]:
    """The median and the lowest seconds a step, and the peak memory in bytes, of every contestant."""
    pipes: dict[Contestant, Connection] = {}
    try:
        for name in names:
            pipes[name] = start(name, B, T, dtype, turn)
            pipes[name].recv()  # it has compiled and is warm
        rounds = [[ask(pipe, True) for pipe in pipes.values()] for _ in range(steps)]
        times = dict(zip(names, zip(*rounds, strict=True), strict=True))
        return {name: (statistics.median(times[name]), min(times[name]), ask(pipes[name], False)) for name in names}
    except (EOFError, ConnectionError):
        sys.exit("a process of the benchmark ended early; if it was for want of memory, name fewer --contestants")
    finally:
        for pipe in pipes.values():
            pipe.close()  # which ends the processes that still wait
        for process in multiprocessing.active_children():
            process.join()


def start(name: Contestant, *arguments: Any) -> Connection:
    ours, theirs = SPAWN.Pipe()
    SPAWN.Process(target=work, args=(theirs, name, *arguments)).start()
    theirs.close()
    return ours


def ask(pipe: Connection, go_on: bool) -> Any:
    pipe.send(go_on)
    return pipe.recv()


def utilization(gpu: str, B: int, T: int, dtype: str, seconds: float) -> list[str]:
    """MFU, and the share of the step that moving parameters and moments takes at the memory's full speed."""
    return [f"{floor / seconds:.1%}" if floor else "n/a" for floor in find_floors(gpu, B, T, dtype)]


def find_floors(
    gpu: str, B: int, T: int, dtype: str, parameters: int = PARAMETERS, n_layer: int = L, n_embd: int = C
) -> tuple[float, float]:
    """Seconds that a step takes at least, by its operations and by its memory traffic; 0 where the peak is unknown.

    A step's MFU is the first of them over its seconds.
    """
    operations, bandwidth = find_peaks(gpu, dtype)
    flops = B * T * (6 * (parameters - 1024 * n_embd) + 12 * n_layer * T * n_embd)
    moved = parameters * (24 + 2 * (2 if dtype == "bfloat16" else 4))
    return operations and flops / operations, bandwidth and moved / bandwidth


def find_peaks(gpu: str, dtype: str) -> tuple[float, float]:
    """Operations/s of dense products in this dtype and bytes/s of the memory; 0 where they are unknown."""
    bf16, f32, bandwidth = PEAKS.get(gpu, (0, 0, 0))
    return bf16 if dtype == "bfloat16" else f32, bandwidth


if __name__ == "__main__":
    main(tyro.cli(Flags))
