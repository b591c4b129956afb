"""The main job beside PyTorch: GPT-2 124M, AdamW at 3e-4, B=4, T=32, tiny Shakespeare, float32.

pip install torch transformers
python benchmarks/follow_pytorch.py                  # from jaxgpt's initial weights: both losses, step by step
python benchmarks/follow_pytorch.py --init pytorch   # PyTorch alone, from its own initial weights
"""

import dataclasses
import functools
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

from jaxgpt import corpus
from jaxgpt.config import GPT2Config
from jaxgpt.loader import next_batch
from jaxgpt.optimizer import lr_schedule, make_optimizer
from jaxgpt.pretrained import save_hf
from jaxgpt.step import TrainState, init_state, loss_fn, train_step

TX = make_optimizer(lr_schedule(3e-4, 50))
Row = tuple[float, float]  # loss, gradient norm


@dataclasses.dataclass
class Flags:
    """Train GPT-2 124M as the main job does, beside PyTorch."""

    seed: int = 0
    """Of the initial weights, as in train.py."""
    steps: int = 50
    """Optimizer steps."""
    init: Literal["jaxgpt", "pytorch"] = "jaxgpt"
    """Whose initial weights."""


def batches(steps: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    tokens, position = corpus.load("shakespeare").tokens, 0
    for _ in range(steps):
        x, y, position = next_batch(tokens, position, 4, 32)
        yield x, y


def ours(state: TrainState, steps: int) -> Iterator[Row]:
    step = jax.jit(functools.partial(train_step, loss_fn=loss_fn, tx=TX), donate_argnums=0)
    for batch in batches(steps):
        state, metrics = step(state, batch)
        yield float(metrics["loss"]), float(metrics["grad_norm"])


def theirs(model: torch.nn.Module, steps: int) -> Iterator[Row]:
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4)
    for x, y in batches(steps):
        logits = model(torch.tensor(x, dtype=torch.long)).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y, dtype=torch.long).flatten())
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), float("inf"))
        optimizer.step()
        yield loss.item(), norm.item()


def main(flags: Flags) -> None:
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    if flags.init == "pytorch":
        torch.manual_seed(flags.seed)
        model = transformers.GPT2LMHeadModel(transformers.GPT2Config(**no_dropout))
        losses = [loss for loss, _ in theirs(model, flags.steps)]
        print(
            f"PyTorch, seed {flags.seed}: first loss {losses[0]:.4f}, mean of the last ten {np.mean(losses[-10:]):.4f}"
        )
        return
    key = jax.random.fold_in(jax.random.key(flags.seed), 2)  # as train.py has it
    state = jax.jit(functools.partial(init_state, config=GPT2Config(unroll=12), tx=TX))(key)  # likewise
    with tempfile.TemporaryDirectory() as folder:
        save_hf(state.model, Path(folder) / "weights")
        model = transformers.GPT2LMHeadModel.from_pretrained(Path(folder) / "weights", **no_dropout)
    print(" step | loss: jaxgpt |  PyTorch | difference | grad norm: jaxgpt |  PyTorch")
    rows = list(zip(ours(state, flags.steps), theirs(model, flags.steps), strict=True))
    for step, ((loss, norm), (their_loss, their_norm)) in enumerate(rows):
        losses = f"{loss:12.5f} | {their_loss:8.5f} | {loss - their_loss:10.1e}"
        print(f"{step:5d} | {losses} | {norm:17.4f} | {their_norm:8.4f}")
    print(f"largest difference of the losses: {max(abs(a[0] - b[0]) for a, b in rows):.1e}")


if __name__ == "__main__":
    main(tyro.cli(Flags))
