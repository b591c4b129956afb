"""The shape of a GPT-2."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxgpt.console import plural
from jaxgpt.errors import require
from jaxgpt.models import hf_layouts
from jaxgpt.models.configs.base import TransformerConfig
from jaxgpt.models.hf_layouts import HuggingFaceConfig

# Radford et al. (2019), table 2, with the head counts of the released models; `tiny` is for tests and first tries.
SIZES = {
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64},
}


@dataclasses.dataclass(frozen=True)
class GPT2Config(TransformerConfig):
    """The shape of a GPT-2, and how it is computed. The defaults are GPT-2 124M."""

    lora_on: str = "attn.c_attn"
    predict_tokens: int = 1
    """n: how many of the tokens that follow are predicted, each by a head of one block; n_layer counts these blocks."""

    arch: ClassVar[str] = "gpt2"
    module: ClassVar[str] = "jaxgpt.models.gpt2"
    title: ClassVar[str] = "GPT-2"
    shape: ClassVar[tuple[str, ...]] = ("block_size", "n_layer", "n_head", "n_embd")
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
    linear: ClassVar[tuple[str, ...]] = ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    hugging_face: ClassVar[Mapping[str, HuggingFaceConfig]] = hf_layouts.GPT2

    def __post_init__(self):
        super().__post_init__()
        require(
            self.predict_tokens == 1 or 1 < self.predict_tokens < self.n_layer,
            "predict_tokens",
            self.predict_tokens,
            f"1, or below --n-layer {self.n_layer}: each token has a head of one block, and the trunk has the rest",
        )

    @property
    def head_size(self) -> int:
        """D: width of a head."""
        return self.n_embd // self.n_head

    @property
    def depth(self) -> int:
        """Blocks that the next token is computed through, one after the other: those of h."""
        return self.n_layer - self.predict_tokens + 1

    def __str__(self) -> str:
        heads = f" (a trunk of {self.depth - 1}, and one for each of the next tokens)" * (self.predict_tokens > 1)
        return f"{plural(self.n_layer, 'layer')}{heads}, {plural(self.n_head, 'head')}, width {self.n_embd}"
