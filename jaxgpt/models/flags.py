"""The shape of a model, as flags. No JAX."""

import dataclasses
import math
from typing import Any, Literal

from jaxgpt.errors import UsageError, require
from jaxgpt.models.configs import LINEAR, GPT2Config

SHAPE = ("block_size", "n_layer", "n_head", "n_embd", "untied_head")  # what weights to begin with decide


@dataclasses.dataclass(frozen=True)
class ModelFlags:
    """Its shape, and what of it is trained."""

    n_layer: int = GPT2Config.n_layer
    """Transformer blocks."""
    n_head: int = GPT2Config.n_head
    """Attention heads a block."""
    n_embd: int = GPT2Config.n_embd
    """Width of the model; a multiple of --n-head."""
    block_size: int = GPT2Config.block_size
    """The longest context the model can take, in tokens."""
    untied_head: bool = False
    """Learn a separate output matrix; GPT-2's is its token embedding. 39 million parameters more at width 768."""
    pad_vocab_to_multiple_of: int = GPT2Config.pad_vocab_to_multiple_of
    """Rows of the token embedding: 50257, rounded up to a multiple of this; the same losses, and 128 suits a GPU."""
    dropout: float = 0.0
    """In training, the share of the embedding's and of every sublayer's output that is set to 0."""
    lora: int = 0
    """Rank of low-rank adapters, which are then trained in place of the weights of --init-from; 0: none."""
    lora_alpha: float = GPT2Config.lora_alpha
    """What the adapters add is multiplied by this, over their rank."""
    lora_on: str = GPT2Config.lora_on
    """Linear layers with adapters, with commas between: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32. Parameters are float32 always."""
    remat: Literal["none", "dots", "full"] = dataclasses.field(default="none", metadata={"may_change": True})
    """Saves memory: the backward pass computes again nothing; all but the linear layers; each block."""

    def __post_init__(self):
        require(
            1 <= self.pad_vocab_to_multiple_of <= 2**16,
            "pad_vocab_to_multiple_of",
            self.pad_vocab_to_multiple_of,
            "from 1 to 65,536",
        )
        require(0 <= self.lora < 2**31, "lora", self.lora, "from 0 to 2**31 - 1")
        require(0 < self.lora_alpha < math.inf, "lora_alpha", self.lora_alpha, "a finite number above 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")
        if unknown := set(self.lora_on.split(",")) - set(LINEAR):
            raise UsageError(f"--lora-on {self.lora_on}: no layer is called {min(unknown)!r}; use {', '.join(LINEAR)}")

    def config(self, predict_tokens: int = 1, **more: Any) -> GPT2Config:
        """The model's config; `more` is what the device (dtype, attention, ...) and the data (n_labels) decide."""
        names = ("pad_vocab_to_multiple_of", "dropout", "lora", "lora_alpha", "lora_on", *SHAPE)
        return GPT2Config(**{name: getattr(self, name) for name in names}, predict_tokens=predict_tokens, **more)
