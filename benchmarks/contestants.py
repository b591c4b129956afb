"""What benchmarks/training.py times, each in a process of its own: jaxgpt's training step and PyTorch's.

jaxgpt is what train.py builds, the norm of the gradient included. PyTorch is the plain loop as people write it:
GPT2LMHeadModel of transformers without dropout and cache, fused AdamW, bfloat16 by autocast, no norm of the gradient.
"""

import contextlib
import importlib.util
import os
import re
import sys
import time
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt.data.loader import next_batch
from jaxgpt.runtime import allocator

Side = tuple[Callable[[int], None], Callable[[], int]]  # do so many steps and wait for the last; peak memory in bytes


def jaxgpt(B: int, T: int, dtype: Any) -> Side:
    from jaxgpt.runtime import device
    from jaxgpt.training.config import TrainConfig

    device.select("auto")
    return jaxgpt_side(TrainConfig.of(B=B, T=T, dtype=dtype))


def jaxgpt_side(config: Any, step: Any = None) -> Side:
    """Steps of a TrainConfig on the selected device, by the `step` that setup.compile_step made of it, or makes now."""
    import jax

    from jaxgpt.runtime import device
    from jaxgpt.training.setup import build_trainer, compile_step

    trainer = build_trainer(config)
    state, frozen = trainer.init_state(seed=0), trainer.init_frozen(seed=0)
    step = step or compile_step(config, trainer.mesh)
    data = batches(config.data.B, config.data.T)
    first = jax.devices()[0]
    on_gpu, freed = first.platform == "gpu", allocator.FreedMemory()

    def advance(steps: int) -> None:
        nonlocal state
        for _ in range(steps):
            x, y = next(data)
            batch = device.put({"tokens": x, "targets": y}, trainer.sharding)
            state, metrics = step(state, batch, frozen)
            if not on_gpu:  # as train.py does
                jax.device_get(metrics)
                freed.after_step(None, metrics)
        jax.device_get(metrics)

    return advance, lambda: first.memory_stats()["peak_bytes_in_use"] if on_gpu else peak_memory()


def pytorch(B: int, T: int, dtype: str, compiled: bool) -> Side:
    import torch
    import transformers

    where = "cuda" if torch.cuda.is_available() else "cpu"
    torch.set_num_threads(cores())
    torch.manual_seed(0)
    config = transformers.GPT2Config(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0, use_cache=False)
    model = transformers.GPT2LMHeadModel(config).to(where).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    data = batches(B, T)

    def loss_of(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        with torch.autocast(where, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = model(x).logits
        return torch.nn.functional.cross_entropy(logits.float().flatten(0, 1), y.flatten())

    if compiled:
        loss_of = torch.compile(loss_of)

    def advance(steps: int) -> None:
        for _ in range(steps):
            x, y = (torch.from_numpy(ids).to(where, torch.long) for ids in next(data))
            loss = loss_of(x, y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        loss.item()

    return advance, torch.cuda.max_memory_allocated if where == "cuda" else peak_memory


def batches(B: int, T: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    tokens, position = np.random.default_rng(0).integers(0, 50257, 1_000_000, dtype=np.uint16), 0
    while True:
        x, y, position = next_batch(tokens, position, B, T)
        yield x, y


def peak_memory() -> int:
    """Peak resident memory of this process, in bytes; 0 where the system doesn't tell."""
    status = Path("/proc/self/status")
    return 1024 * int(re.search(r"VmHWM:\s*(\d+)", status.read_text())[1]) if status.exists() else 0


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def work(pipe: Connection, name: str, B: int, T: int, dtype: str, turn: int) -> None:
    """The process of a contestant: warm up and say so; then a turn for each True that comes, and the peak memory.

    It sleeps while the others have their turn.
    """
    tuned = name in ("jaxgpt", "eager-tuned")
    if tuned:
        allocator.use_one_heap()
    advance, peak = jaxgpt(B, T, dtype) if name.startswith("jaxgpt") else pytorch(B, T, dtype, name == "compile")
    if tuned:
        allocator.keep_freed_memory()
    for _ in range(3):  # torch.compile compiles in the first
        advance(1)
    pipe.send(None)
    with contextlib.suppress(EOFError):  # where another one has failed, all end
        while pipe.recv():
            start = time.perf_counter()
            advance(turn)
            pipe.send((time.perf_counter() - start) / turn)
        pipe.send(peak())


def machine() -> tuple[str, str, bool]:
    """A line on what runs here; JAX's name of the GPU, or ""; whether PyTorch is here and runs on the same."""
    import jax

    from jaxgpt.runtime import device

    device.select("auto")
    first = jax.devices()[0]
    gpu = first.device_kind if first.platform == "gpu" else ""
    words, same = [gpu or f"{cores()} CPU cores", f"jax {jax.__version__}"], False
    if importlib.util.find_spec("torch") and importlib.util.find_spec("transformers"):
        import torch
        import transformers

        same = torch.cuda.is_available() == bool(gpu)
        words += [f"torch {torch.__version__}", f"transformers {transformers.__version__}"]
    return ", ".join(words), gpu, same
