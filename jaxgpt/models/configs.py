"""The shapes of models: what one is made from, checked before JAX is imported; one class an architecture."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models import hf_layouts
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
    """Classes of a head on the last token; 0: there is no such head."""
    untied_head: bool = False
    """The output matrix is a parameter of its own; a tied one is the token embedding."""

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

    def __post_init__(self):
        for name in ("vocab_size", "pad_vocab_to_multiple_of", "block_size", "n_layer", "n_embd", "unroll"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    @property
    def arch(self) -> str:
        """The architecture, as --arch names it."""
        return next(name for name, config in CONFIGS.items() if config is type(self))

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


@dataclasses.dataclass(frozen=True)
class GPT2Config(TransformerConfig):
    """The shape of a GPT-2, and how it is computed. The defaults are GPT-2 124M."""

    lora_on: str = "attn.c_attn"
    predict_tokens: int = 1
    """n: how many of the tokens that follow are predicted, each by a head of one block; n_layer counts these blocks."""

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


@dataclasses.dataclass(frozen=True)
class GatedCNNConfig(ModelConfig):
    """The shape of a language model of gated convolutions, and how it is computed."""

    kernel_size: int = 5
    """k: tokens that a convolution sees, the current one and those before it."""
    bottleneck: int = 384
    """b: width of the convolution over time in each block."""

    module: ClassVar[str] = "jaxgpt.models.gated_cnn"
    title: ClassVar[str] = "gated CNN"
    shape: ClassVar[tuple[str, ...]] = ("block_size", "n_layer", "n_embd", "kernel_size", "bottleneck")
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = {"tiny": {"n_layer": 4, "n_embd": 64, "bottleneck": 32}}
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "bottleneck")

    def __post_init__(self):
        super().__post_init__()
        for name in ("kernel_size", "bottleneck"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    def __str__(self) -> str:
        return f"{super().__str__()}, bottleneck {self.bottleneck}, kernels of {plural(self.kernel_size, 'token')}"


CONFIGS: dict[str, type[ModelConfig]] = {
    "gpt2": GPT2Config,
    "gated_cnn": GatedCNNConfig,
}
