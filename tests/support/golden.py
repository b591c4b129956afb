"""Reference numbers from PyTorch's GPT-2: what jaxgpt's model, gradients and optimizer must equal.

`python tests/support/golden.py` (needs torch, transformers and peft) writes golden.npz beside it, which the tests
compare with where these are not installed; where they are, they also run `pytorch()` and `peft()` afresh.
"""

import math
import warnings
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.gpt2 import GPT2, hf_names

STORED = Path(__file__).with_name("golden.npz")
CONFIG = GPT2Config(vocab_size=131, block_size=24, n_layer=3, n_head=3, n_embd=36)
B, T, STEPS = 3, 20, 10
NEEDS_PYTORCH = "PyTorch's own run needs torch and transformers"
LORA = {"lora": 4, "lora_alpha": 8.0, "lora_on": "attn.c_attn"}
# The two recipes of train.py. The second: warm-up over 2 steps, a cosine to a tenth, decay on matrices, clipping.
RECIPES = {
    "chapter": {"lr": 3e-3, "schedule": "constant", "warmup_ratio": 0.0, "min_lr_ratio": 0.1}
    | {"beta1": 0.9, "beta2": 0.999, "eps": 1e-8, "weight_decay": 0.01, "decay": "all", "grad_clip": 0.0},
    "gpt3": {"lr": 6e-3, "schedule": "cosine", "warmup_ratio": 0.2, "min_lr_ratio": 0.1}
    | {"beta1": 0.9, "beta2": 0.95, "eps": 1e-8, "weight_decay": 0.1, "decay": "matrices", "grad_clip": 1.0},
}


def batches() -> list[tuple[np.ndarray, np.ndarray]]:
    """STEPS batches (x, y) of int32 (B, T)."""
    ids = np.random.default_rng(1).integers(0, CONFIG.vocab_size, (STEPS, B, T + 1), dtype=np.int32)
    return [(rows[:, :-1], rows[:, 1:]) for rows in ids]


def pytorch_model(config: GPT2Config, seed: int = 0, spread: float = 0.1):
    """GPT-2 as transformers makes it, with every parameter moved, so that each one's place in the formulas shows."""
    torch = pytest.importorskip("torch", reason=NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=NEEDS_PYTORCH)
    torch.manual_seed(seed)
    model = transformers.GPT2LMHeadModel(
        transformers.GPT2Config(
            vocab_size=config.vocab_size,
            n_positions=config.block_size,
            n_embd=config.n_embd,
            n_layer=config.n_layer,
            n_head=config.n_head,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    ).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(spread * torch.randn_like(parameter))
    return model


def pytorch() -> dict[str, np.ndarray]:
    """Weights, and the logits, gradients and losses that PyTorch computes from them, by name."""
    model, (x, y) = pytorch_model(CONFIG), batches()[0]
    out = {f"weight:{name}": value.detach().numpy().copy() for name, value in model.named_parameters()}
    loss, logits = loss_of(model, x, y)
    loss.backward()
    out |= {f"gradient:{name}": value.grad.numpy().copy() for name, value in model.named_parameters()}
    out["logits"] = logits.detach().numpy()

    for recipe, flags in RECIPES.items():
        model = pytorch_model(CONFIG)
        losses, norms = train(model, flags, batches())
        out[f"losses:{recipe}"] = np.array(losses)
        out[f"grad_norms:{recipe}"] = np.array(norms)
        out |= {f"after:{recipe}:{name}": value.detach().numpy() for name, value in model.named_parameters()}
    return out


def peft() -> dict[str, np.ndarray]:
    """peft's adapters on the same weights, before and after twice the batches with the gpt3 recipe, and the losses."""
    import peft
    import torch

    config = peft.LoraConfig(
        r=LORA["lora"], lora_alpha=LORA["lora_alpha"], target_modules=[LORA["lora_on"]], fan_in_fan_out=True
    )
    with warnings.catch_warnings(category=FutureWarning, action="ignore"):  # transformers' own, about peft
        model = peft.get_peft_model(pytorch_model(CONFIG), config)
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    with torch.no_grad():
        for value in trained.values():  # peft begins with B = 0
            value.add_(0.1 * torch.randn_like(value))
    out = {f"adapter:{name}": value.detach().numpy().copy() for name, value in trained.items()}
    losses, _ = train(model, RECIPES["gpt3"], batches() * 2)
    out["losses:peft"] = np.array(losses)
    return out | {f"adapted:{name}": value.detach().numpy() for name, value in trained.items()}


def loss_of(model, x, y):
    """The mean loss of a batch, and its logits."""
    import torch

    logits = model(torch.tensor(x, dtype=torch.long)).logits
    return torch.nn.functional.cross_entropy(logits.flatten(0, 1), torch.tensor(y, dtype=torch.long).flatten()), logits


def train(model, flags, batches) -> tuple[list[float], list[float]]:
    """A step of PyTorch's AdamW for each batch; the losses and the norms of the gradients."""
    import torch

    steps, warmup = len(batches), round(flags["warmup_ratio"] * len(batches))
    parameters = [p for p in model.parameters() if p.requires_grad]
    decay = flags["weight_decay"]
    groups = [
        {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": decay},
        {"params": [p for p in parameters if p.dim() < 2], "weight_decay": decay if flags["decay"] == "all" else 0.0},
    ]
    optimizer = torch.optim.AdamW(groups, betas=(flags["beta1"], flags["beta2"]), eps=flags["eps"])
    losses, norms = [], []
    for step, (x, y) in enumerate(batches):
        lr = flags["lr"]
        if step < warmup:
            lr *= (step + 1) / warmup
        elif flags["schedule"] == "cosine":
            half_turn = math.cos(math.pi * (step - warmup) / (steps - warmup))
            lr *= flags["min_lr_ratio"] + (1 - flags["min_lr_ratio"]) * 0.5 * (1 + half_turn)
        for group in optimizer.param_groups:
            group["lr"] = lr
        optimizer.zero_grad()
        loss, _ = loss_of(model, x, y)
        loss.backward()
        norms.append(torch.nn.utils.clip_grad_norm_(parameters, flags["grad_clip"] or math.inf).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms


def from_hugging_face(tensors: dict[str, np.ndarray]) -> GPT2:
    """A model of CONFIG with these parameters: renamed and stacked, not transposed."""

    def leaf(path, like):
        values = [tensors[name] for name in hf_names(path, CONFIG)]
        return jnp.array(values if like.shape[1:] == values[0].shape else values[0])

    return jax.tree_util.tree_map_with_path(leaf, jax.eval_shape(lambda: GPT2(CONFIG, jax.random.key(0))))


if __name__ == "__main__":
    np.savez_compressed(STORED, **pytorch(), **peft())
    print(f"{STORED}: {STORED.stat().st_size:,} bytes")
