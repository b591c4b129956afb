"""The shape of a GPT-2: what a model is made from, checked before JAX is imported."""

import dataclasses
from typing import Literal

from jaxgpt.errors import UsageError, require

# Radford et al. (2019), table 2, with the head counts of the released models; `tiny` is for tests and first tries.
SIZES = {
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64},
}

LINEAR = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")  # the linear layers of a block


@dataclasses.dataclass(frozen=True)
class GPT2Config:
    """The shape of a GPT-2, and how it is computed. The defaults are GPT-2 124M."""

    vocab_size: int = 50257
    """V: how many token ids there are."""
    block_size: int = 1024
    """The longest context, in tokens: rows of the position embedding."""
    n_layer: int = 12
    """L: transformer blocks."""
    n_head: int = 12
    """H: attention heads a block."""
    n_embd: int = 768
    """C: width of the residual stream."""
    pad_vocab_to_multiple_of: int = 1
    """The token embedding gets rows up to a multiple of this, which no token uses; 128 suits a GPU's matrix units."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. Parameters, softmax and the loss are float32 always."""
    attention: Literal["xla", "cudnn"] = "xla"
    """xla writes the formula out; cudnn is flash attention, for an NVIDIA GPU and bfloat16."""
    unroll: int = 1
    """Blocks per turn of the layer scan; n_layer leaves no loop: a faster program, a longer compilation."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again: nothing; all but the linear layers; each block from its input."""
    dropout: float = 0.0
    """In training, the share of the embedding's and of each sublayer's output that is set to 0."""
    lora: int = 0
    """Rank of the adapters beside the linear layers that lora_on names; 0: none."""
    lora_alpha: float = 16.0
    """What the adapters add is multiplied by lora_alpha / lora."""
    lora_on: str = "attn.c_attn"
    """Which linear layers have adapters."""
    n_labels: int = 0
    """Classes that a head on the last token tells apart; 0: there is no such head."""
    predict_tokens: int = 1
    """n: how many of the tokens that follow are predicted, each by a head of one block; n_layer counts these blocks."""
    untied_head: bool = False
    """The output matrix is a parameter of its own; GPT-2's is the token embedding."""

    def __post_init__(self):
        for name in ("vocab_size", "pad_vocab_to_multiple_of", "block_size", "n_layer", "n_head", "n_embd", "unroll"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(
            self.predict_tokens == 1 or 1 < self.predict_tokens < self.n_layer,
            "predict_tokens",
            self.predict_tokens,
            f"1, or below --n-layer {self.n_layer}: each token has a head of one block, and the trunk has the rest",
        )
        if self.n_embd % self.n_head:
            raise UsageError(
                f"--n-embd {self.n_embd} can't be split over --n-head {self.n_head} heads: use a multiple of the heads"
            )

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token embedding."""
        return -(-self.vocab_size // self.pad_vocab_to_multiple_of) * self.pad_vocab_to_multiple_of

    @property
    def depth(self) -> int:
        """Blocks that the next token is computed through, one after the other: those of h."""
        return self.n_layer - self.predict_tokens + 1

    def adapts(self, layer: str) -> bool:
        """Whether this linear layer of every block has an adapter."""
        return self.lora > 0 and layer in self.lora_on.split(",")
