"""What the configs of all architectures have."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models.hf_layouts import HuggingFaceConfig


@dataclasses.dataclass(frozen=True)
class ModelConfig:
    """What the configs of all architectures have: the shape of a model, and how it is computed."""

    vocab_size: int = 50257
    """V: how many token ids there are."""
    block_size: int = 1024
    """The longest context, in tokens."""
    n_layer: int = 12
    """L: blocks."""
    n_embd: int = 768
    """C: width of the residual stream."""
    pad_vocab_to_multiple_of: int = 1
    """The token embedding gets rows up to a multiple of this, which no token uses; 128 suits a GPU's matrix units."""
    dtype: Literal["float32", "bfloat16"] = "float32"
    """Compute dtype. Parameters, softmax and the loss are float32 always."""
    unroll: int = 1
    """Blocks per turn of the layer scan; n_layer leaves no loop: a faster program, a longer compilation."""
    remat: Literal["none", "dots", "full"] = "none"
    """What the backward pass computes again: nothing; all but the linear layers; each block from its input."""
    dropout: float = 0.0
    """In training, the share of the embedding's and of each sublayer's output that is set to 0."""
    n_labels: int = 0
    """Classes of a head on the last token, or the first of an encoder; 0: there is no such head."""
    untied_head: bool = False
    """The output matrix is a parameter of its own; a tied one is the token embedding."""

    arch: ClassVar[str]
    """The architecture, as --arch names it."""
    module: ClassVar[str]
    """The file of the architecture, as base.architecture imports it."""
    title: ClassVar[str]
    """What the architecture is called in a sentence."""
    shape: ClassVar[tuple[str, ...]] = ("block_size", "n_layer", "n_embd")
    """The flags of a run that set the shape of its model: integers, numbers, text, or bool, which are False."""
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Shapes that have a name, a value of --size."""
    sharded: ClassVar[tuple[str, ...]] = ("n_embd",)
    """The flags that an fsdp mesh must divide."""
    hugging_face: ClassVar[Mapping[str, HuggingFaceConfig]] = {}
    """What config.json of Hugging Face's layout says of such models, by its model_type; empty: they have no layout."""
    # What not all architectures have; those that do have a field or a property of that name.
    attention: ClassVar[str] = "xla"
    head_size: ClassVar[int | None] = None
    lora: ClassVar[int] = 0
    predict_tokens: ClassVar[int] = 1
    logits_soft_cap: ClassVar[float] = 0.0
    bidirectional: ClassVar[bool] = False  # an encoder: tokens see those behind them, and masked ones are predicted

    def __post_init__(self):
        for name in ("vocab_size", "pad_vocab_to_multiple_of", "block_size", "n_layer", "n_embd", "unroll"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def depth(self) -> int:
        """Blocks that the next token is computed through, one after the other."""
        return self.n_layer

    def __str__(self) -> str:
        return f"{plural(self.n_layer, 'layer')}, width {self.n_embd}"

    @property
    def padded_vocab_size(self) -> int:
        """Rows of the token embedding."""
        return -(-self.vocab_size // self.pad_vocab_to_multiple_of) * self.pad_vocab_to_multiple_of


@dataclasses.dataclass(frozen=True)
class TransformerConfig(ModelConfig):
    """What the configs of transformers have: heads of attention, and adapters beside linear layers."""

    n_head: int = 12
    """H: attention heads a block."""
    attention: Literal["xla", "cudnn"] = "xla"
    """xla writes the formula out; cudnn is flash attention, for an NVIDIA GPU and bfloat16."""
    lora: int = 0
    """Rank of the adapters beside the linear layers that lora_on names; 0: none."""
    lora_alpha: float = 16.0
    """What the adapters add is multiplied by lora_alpha / lora."""
    lora_on: str = ""
    """Which linear layers have adapters, with commas between."""

    linear: ClassVar[tuple[str, ...]] = ()
    """What the linear layers of a block are called, which may have adapters."""

    def __post_init__(self):
        super().__post_init__()
        require(self.n_head >= 1, "n_head", self.n_head, "at least 1")
        if self.n_embd % self.n_head:
            raise UsageError(
                f"--n-embd {self.n_embd} can't be split over --n-head {self.n_head} heads: use a multiple of the heads"
            )
        if unknown := set(self.lora_on.split(",")) - {*self.linear}:
            layers = ", ".join(self.linear)
            raise UsageError(f"--lora-on {self.lora_on}: no layer is called {min(unknown)!r}; use {layers}")

    def adapts(self, layer: str) -> bool:
        """Whether this linear layer of every block has an adapter."""
        return self.lora > 0 and layer in self.lora_on.split(",")
