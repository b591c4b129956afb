"""Flags that set the defaults of others, and these defaults: recipes, and learning rates by size."""

import dataclasses
from typing import Any, Literal

from jaxgpt.models.configs import CONFIGS
from jaxgpt.training import post_training

RECIPES: dict[str, dict[str, Any]] = {  # defaults, by the value of --recipe
    "chapter": {},
    # Brown et al. (2020), appendix B and table 2.1. The warm-up is build-nanogpt's 715 of 19,073 steps, as a share of
    # the steps so that it fits a run of any length. Its learning rate depends on the size.
    "gpt3": {
        "schedule": "cosine",
        "warmup_ratio": 0.0375,
        "min_lr_ratio": 0.1,
        "beta2": 0.95,
        "weight_decay": 0.1,
        "decay": "matrices",
        "grad_clip": 1.0,
    },
    "finetune": {"epochs": 3, "lr": 3e-5, "dropout": 0.1},
    # Radford et al. (2018), section 4.1, with a cosine in place of the straight line.
    "classify": {
        "B": 32,
        "T": 128,  # most sentences are shorter, and a row costs as much as its T
        "epochs": 3,
        "lr": 6.25e-5,
        "schedule": "cosine",
        "warmup_ratio": 0.002,
        "weight_decay": 0.01,
        "decay": "matrices",
        "grad_clip": 1.0,
        "dropout": 0.1,
    },
    **post_training.RECIPES,
}
GPT3_LR = {"gpt2": 6e-4, "gpt2-medium": 3e-4, "gpt2-large": 2.5e-4, "gpt2-xl": 2e-4, "tiny": 6e-4}
GPT3_LR |= {"griffin-124m": 6e-4, "recurrentgemma-2b": 1.6e-4, "gated-cnn-124m": 6e-4}
GPT3_LR |= {"bert-base": 6e-4, "roberta-base": 6e-4}
GPT3_LR |= {"smollm2-135m": 6e-4, "smollm2-360m": 3e-4, "qwen3-0.6b": 2.5e-4, "llama-3.2-1b": 2e-4}


@dataclasses.dataclass(frozen=True)
class Preset:
    """Flags that set the defaults of others."""

    size: Literal[*dict.fromkeys(size for config in CONFIGS.values() for size in config.sizes)] = dataclasses.field(
        default="gpt2", metadata={"may_change": True}
    )
    """Sets --n-layer, --n-head, --n-embd. 124M, 355M, 774M and 1,558M parameters; tiny is for tests. smollm2, qwen3 and
    llama are shapes for --arch llama, griffin and recurrentgemma for --arch griffin, gated-cnn for --arch gated_cnn,
    bert and roberta for --arch bert."""
    recipe: Literal["chapter", "gpt3", "finetune", "classify", "preferences", "rl"] = dataclasses.field(
        default="chapter", metadata={"may_change": True}
    )
    """Sets --lr to --grad-clip: chapter is PyTorch's AdamW at 3e-4; gpt3 is that paper's training. For --init-from:
    finetune and, for texts with labels, classify, which set --epochs and --dropout too, and classify --B and --T. For
    judged answers preferences, and for rewards rl, the defaults of their objectives."""
    init_from: str | None = None
    """Begin with these weights, which set the model's shape: gpt2, gpt2-medium, gpt2-large, gpt2-xl, or a folder."""
    predict_tokens: int = 1
    """How many of the tokens that follow each are predicted, by a head of one block for each; the loss is their sum.
    --n-layer counts these blocks, so the model is as large as without; with --init-from they are added to it."""
    arch: Literal[*CONFIGS] = "gpt2"
    """Architecture of the model."""
    objective: str = "auto"
    """What is minimized; auto: the usual one for the data: next_token, completion, classification, multi_token,
    multi_token_completion, masked or regression. For pairs of answers dpo, ipo, orpo, simpo or reward; for rated
    answers kto; for what --env or --reward rewards reinforce, rloo, dr_grpo, grpo or dapo."""
