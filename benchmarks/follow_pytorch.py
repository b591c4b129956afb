"""The main job beside PyTorch: GPT-2 124M, AdamW at 3e-4, B=4, T=32, tiny Shakespeare, float32.

pip install torch transformers
python benchmarks/follow_pytorch.py                  # from jaxgpt's initial weights: both losses, step by step
python benchmarks/follow_pytorch.py --other nudged   # beside itself, one weight changed in its last bit
python benchmarks/follow_pytorch.py --init pytorch   # PyTorch alone, from its own initial weights
"""

import dataclasses
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

import jax
import numpy as np
import torch
import transformers
import tyro

sys.path.insert(0, str(Path(__file__).parent.parent))

from jaxgpt.data import corpus
from jaxgpt.data.cache import cache_folder
from jaxgpt.data.loader import next_batch
from jaxgpt.models.gpt2 import GPT2
from jaxgpt.runs.huggingface import save_hf
from jaxgpt.runtime import device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.setup import Trainer, build_trainer
from jaxgpt.training.step import FrozenInputs

NO_DROPOUT = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
Row = tuple[float, float]  # loss, gradient norm


@dataclasses.dataclass
class Flags:
    """Train GPT-2 124M as the main job does, beside PyTorch or beside itself."""

    seed: int = 0
    """Of the initial weights, as in train.py."""
    steps: int = 50
    """Optimizer steps."""
    init: Literal["jaxgpt", "pytorch"] = "jaxgpt"
    """Whose initial weights."""
    other: Literal["pytorch", "nudged"] = "pytorch"
    """Beside what: nudged is jaxgpt itself, from weights of which one is the next larger float32."""
    size: Literal["gpt2", "tiny"] = "gpt2"
    """Of the model."""
    device: Literal["cpu", "gpu"] = "cpu"
    """Of jaxgpt; on a GPU PyTorch takes it too, if its build can."""


def batches(steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    tokens, position = corpus.load("shakespeare").tokens, 0
    for _ in range(steps):
        x, y, position = next_batch(tokens, position, 4, 32)
        yield x, y


def ours(trainer: Trainer, seed: int, steps: int, nudge: bool = False) -> Iterator[Row]:
    state = trainer.init_state(seed)
    if nudge:
        (wpe,) = (leaf for leaf in jax.tree.leaves(state.model) if leaf.shape == (1024, 768))  # every batch reads it
        nudged = wpe.at[0, 0].set(np.nextafter(wpe[0, 0], np.float32(np.inf)))
        model = jax.tree.map(lambda leaf: nudged if leaf is wpe else leaf, state.model)
        state = dataclasses.replace(state, model=model)
    for batch in batches(steps):
        state, metrics = trainer.step(state, dict(zip(("tokens", "targets"), batch, strict=True)), FrozenInputs())
        yield float(metrics["loss"]), float(metrics["grad_norm"])


def in_pytorch(model: GPT2) -> torch.nn.Module:
    with tempfile.TemporaryDirectory() as folder:
        save_hf(model, Path(folder) / "weights")
        return transformers.GPT2LMHeadModel.from_pretrained(Path(folder) / "weights", **NO_DROPOUT)


def theirs(model: torch.nn.Module, steps: int, where: str = "cpu") -> Iterator[Row]:
    model = model.to(where)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for batch in batches(steps):
        x, y = (torch.tensor(ids, dtype=torch.long, device=where) for ids in batch)
        loss = torch.nn.functional.cross_entropy(model(x).logits.flatten(0, 1), y.flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
        optimizer.step()
        yield loss.item(), norm.item()


def main(flags: Flags) -> None:
    if flags.init == "pytorch":
        torch.manual_seed(flags.seed)
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**NO_DROPOUT))
        losses = [loss for loss, _ in theirs(model, flags.steps)]
        print(
            f"PyTorch, seed {flags.seed}: first loss {losses[0]:.4f}, mean of the last ten {np.mean(losses[-10:]):.4f}"
        )
        return
    os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")  # PyTorch needs some of a GPU's memory
    device.select(flags.device)
    device.keep_compiled(cache_folder() / "compiled")
    trainer = build_trainer(TrainConfig.from_preset(Preset(size=flags.size)).replace(dtype="float32"))
    if flags.other == "pytorch":
        where = "cuda" if flags.device == "gpu" and torch.cuda.is_available() else "cpu"
        others = theirs(in_pytorch(trainer.init_state(flags.seed).model), flags.steps, where)
    else:
        others = ours(trainer, flags.seed, flags.steps, nudge=True)
    print(f" step | loss: jaxgpt | {flags.other:>8} | difference | grad norm: jaxgpt | {flags.other:>8}")
    rows = list(zip(ours(trainer, flags.seed, flags.steps), others, strict=True))
    for step, ((loss, norm), (their_loss, their_norm)) in enumerate(rows):
        losses = f"{loss:12.5f} | {their_loss:8.5f} | {loss - their_loss:10.1e}"
        print(f"{step:5d} | {losses} | {norm:17.4f} | {their_norm:8.4f}")
    print(f"largest difference of the losses: {max(abs(a[0] - b[0]) for a, b in rows):.1e}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
