"""nanoGPT's CPU example, `train_shakespeare_char` with the flags of its readme, by jaxgpt and in PyTorch.

pip install torch
python -m benchmarks.nanogpt --folder /tmp/nanogpt

nanoGPT's model is written out here in PyTorch: no biases, no dropout, GELU by the error function, the output matrix
tied to the embedding; AdamW with a weight decay of 0.1 on matrices, beta2 0.99, 100 steps of warm-up and a cosine down
to a tenth, gradients clipped to 1, windows drawn at random. jaxgpt's GPT-2 has biases, and GELU by tanh. Both are
measured on every window of tiny Shakespeare's last tenth, where nanoGPT draws 20 batches.
"""

import dataclasses
import json
import math
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
import torch
import tyro
from torch import nn
from torch.nn import functional

from jaxgpt.data import corpus
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER

ROOT = Path(__file__).parent.parent
LAYERS, HEADS, WIDTH, T, B = 4, 4, 128, 64, 12
SHAPE = ["--n-layer", LAYERS, "--n-head", HEADS, "--n-embd", WIDTH, "--block-size", T, "--B", B, "--T", T]
RECIPE = ["--recipe", "gpt3", "--lr", 1e-3, "--warmup-ratio", 0.05, "--beta2", 0.99]
DATA = ["--tokenizer", "chars", "--val", 0.1, "--order", "shuffled"]


@dataclasses.dataclass
class Flags:
    """Train both, for each seed."""

    folder: Path
    """For jaxgpt's runs."""
    seeds: int = 3
    """How many times."""
    steps: int = 2000
    """Optimizer steps."""


class Block(nn.Module):
    def __init__(self):
        super().__init__()
        self.ln_1, self.ln_2 = (nn.LayerNorm(WIDTH, bias=False) for _ in range(2))
        self.qkv, self.attn_proj = nn.Linear(WIDTH, 3 * WIDTH, bias=False), nn.Linear(WIDTH, WIDTH, bias=False)
        self.fc, self.mlp_proj = nn.Linear(WIDTH, 4 * WIDTH, bias=False), nn.Linear(4 * WIDTH, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        q, k, v = (
            part.view(*x.shape[:2], HEADS, -1).transpose(1, 2) for part in self.qkv(self.ln_1(x)).split(WIDTH, 2)
        )
        heads = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.attn_proj(heads.transpose(1, 2).reshape(x.shape))
        return x + self.mlp_proj(functional.gelu(self.fc(self.ln_2(x))))


class NanoGPT(nn.Module):
    def __init__(self, vocab_size: int):
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, WIDTH), nn.Embedding(T, WIDTH)
        self.blocks, self.ln_f = nn.Sequential(*(Block() for _ in range(LAYERS))), nn.LayerNorm(WIDTH, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02 / (math.sqrt(2 * LAYERS) if "_proj" in name else 1))

    def loss(self, ids: torch.Tensor) -> torch.Tensor:
        """The mean over the windows ids, (B, T + 1)."""
        x = self.ln_f(self.blocks(self.wte(ids[:, :-1]) + self.wpe.weight))
        return functional.cross_entropy((x @ self.wte.weight.T).flatten(0, 1), ids[:, 1:].flatten())


def in_pytorch(seed: int, steps: int) -> float:
    """The validation loss in nats."""
    characters = np.array(list(GPT2_TOKENIZER.decode(corpus.load("shakespeare").tokens.tolist())))
    vocabulary, ids = np.unique(characters, return_inverse=True)
    train, validation = np.split(ids, [len(ids) - round(0.1 * len(ids))])
    torch.manual_seed(seed)
    rng, model = np.random.default_rng(seed), NanoGPT(len(vocabulary))
    groups = [[p for p in model.parameters() if (p.ndim == 2) == decayed] for decayed in (True, False)]
    settings = [{"params": p, "weight_decay": decay} for p, decay in zip(groups, (0.1, 0.0), strict=True)]
    optimizer = torch.optim.AdamW(settings, lr=1e-3, betas=(0.9, 0.99))
    for step in range(steps):
        cosine = 0.5 * (1 + math.cos(math.pi * max(0, step - 100) / max(1, steps - 100)))
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * step / 100 if step < 100 else 1e-4 + 9e-4 * cosine
        windows = train[rng.integers(len(train) - T, size=B)[:, None] + np.arange(T + 1)]
        optimizer.zero_grad()
        model.loss(torch.from_numpy(windows)).backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    starts = np.arange((len(validation) - 1) // T) * T
    with torch.no_grad():
        windows = torch.from_numpy(validation[starts[:, None] + np.arange(T + 1)])
        return model.loss(windows).item()


def by_jaxgpt(seed: int, flags: Flags) -> float:
    out = flags.folder / f"jaxgpt-{seed}"
    words = [*RECIPE, *DATA, *SHAPE, "--seed", seed, "--steps", flags.steps, "--device", "cpu", "--out", out]
    subprocess.run([sys.executable, ROOT / "train.py", *map(str, words)], check=True, capture_output=True)
    rows = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]
    return next(row["val_loss"] for row in reversed(rows) if "val_loss" in row)


def main(flags: Flags) -> None:
    losses = [(by_jaxgpt(seed, flags), in_pytorch(seed, flags.steps)) for seed in range(flags.seeds)]
    print("| | validation loss | mean |\n|---|---|---|")
    for name, each in zip(("jaxgpt", "PyTorch"), zip(*losses, strict=True), strict=True):
        print(f"| {name} | {', '.join(f'{loss:.3f}' for loss in each)} | {statistics.mean(each):.3f} |")


if __name__ == "__main__":
    main(tyro.cli(Flags))
