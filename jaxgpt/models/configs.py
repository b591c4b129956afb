"""The shapes of models: what one is made from, checked before JAX is imported; one class an architecture."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models import hf_layouts
from jaxgpt.models.hf_layouts import HuggingFaceConfig

REWARD = ("reward",)  # the labels of a reward model, whose head has one output
# Radford et al. (2019), table 2, with the head counts of the released models; `tiny` is for tests and first tries.
SIZES = {
    "gpt2": {"n_layer": 12, "n_head": 12, "n_embd": 768},
    "gpt2-medium": {"n_layer": 24, "n_head": 16, "n_embd": 1024},
    "gpt2-large": {"n_layer": 36, "n_head": 20, "n_embd": 1280},
    "gpt2-xl": {"n_layer": 48, "n_head": 25, "n_embd": 1600},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64},
}
# SmolLM2 (Allal et al., 2025), Qwen3 (Yang et al., 2025) and Llama 3.2 (Meta, 2024), as their config.json have them.
LLAMA_SIZES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {"n_layer": 30, "n_head": 9, "n_kv_head": 3, "n_embd": 576, "intermediate_size": 1536}
    | {"rope_theta": 1e5, "block_size": 8192},
    "smollm2-360m": {"n_layer": 32, "n_head": 15, "n_kv_head": 5, "n_embd": 960, "intermediate_size": 2560}
    | {"rope_theta": 1e5, "block_size": 8192},
    "qwen3-0.6b": {"n_layer": 28, "n_head": 16, "n_kv_head": 8, "n_embd": 1024, "intermediate_size": 3072}
    | {"head_size": 128, "qk_norm": True, "norm_eps": 1e-6, "rope_theta": 1e6, "block_size": 40960},
    "llama-3.2-1b": {"n_layer": 16, "n_head": 32, "n_kv_head": 8, "n_embd": 2048, "intermediate_size": 8192}
    | {"rope_theta": 5e5, "rope_scaling": "32,1,4,8192", "block_size": 131072},
    "tiny": {"n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 64},
}

# RecurrentGemma's are Botev et al.'s (2024), "RecurrentGemma: Moving Past Transformers", table 1.
GRIFFIN_SIZES: dict[str, dict[str, Any]] = {
    "griffin-124m": {"n_layer": 12, "n_head": 12, "n_kv_head": 1, "n_embd": 768},
    "recurrentgemma-2b": {"n_layer": 26, "n_head": 10, "n_kv_head": 1, "n_embd": 2560, "window": 2048}
    | {"block_size": 8192},
    "tiny": {"n_layer": 3, "n_head": 2, "n_embd": 64, "window": 64},
}
GATED_CNN_SIZES = {
    "gated-cnn-124m": {"n_layer": 12, "n_embd": 768, "bottleneck": 704},
    "tiny": {"n_layer": 4, "n_embd": 64, "bottleneck": 32},
}

# Devlin et al. (2019) and Liu et al. (2019), as the released models' config.json have them.
BERT_SIZES: dict[str, dict[str, Any]] = {
    "bert-base": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512},
    "roberta-base": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512}
    | {"token_types": 1, "position_offset": 2, "norm_eps": 1e-5},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 512},
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
    """Classes of a head on the last token, or the first of an encoder; 0: there is no such head."""
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
    logits_soft_cap: ClassVar[float] = 0.0
    bidirectional: ClassVar[bool] = False  # an encoder: tokens see those behind them, and masked ones are predicted

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
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = GATED_CNN_SIZES
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "bottleneck")

    def __post_init__(self):
        super().__post_init__()
        for name in ("kernel_size", "bottleneck"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    def __str__(self) -> str:
        return f"{super().__str__()}, bottleneck {self.bottleneck}, kernels of {plural(self.kernel_size, 'token')}"


@dataclasses.dataclass(frozen=True)
class LlamaConfig(TransformerConfig):
    """The shape of a Llama, Qwen2, Qwen3 or SmolLM2, and how it is computed.

    The fields that are None are set to what they stand for; the defaults make a model of GPT-2 124M's size.
    """

    n_kv_head: int | None = None
    """Heads of keys and values, each for as many of --n-head in a row; by default as many as those."""
    head_size: int | None = None
    """D: width of a head, an even number; by default --n-embd / --n-head."""
    intermediate_size: int | None = None
    """Width of the perceptron; by default 8/3 of --n-embd, rounded up to a multiple of 64."""
    qkv_bias: bool = False
    """Queries, keys and values have biases, as in Qwen2."""
    qk_norm: bool = False
    """Queries and keys have a norm in each head, as in Qwen3."""
    norm_eps: float = 1e-5
    """Added to the mean square in a norm."""
    rope_theta: float = 10000.0
    """Base of the rotary positions: with a larger one features turn more slowly, for longer texts."""
    rope_scaling: str = "none"
    """Llama 3's change of the rotary positions for longer texts: factor, low_freq_factor, high_freq_factor and
    original_max_position_embeddings with commas between, such as 32,1,4,8192; none: there is none."""
    lora_on: str = "q_proj,v_proj"

    module: ClassVar[str] = "jaxgpt.models.llama"
    title: ClassVar[str] = "Llama"
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_kv_head", "head_size", "n_embd", "intermediate_size"),
        *("qkv_bias", "qk_norm", "norm_eps", "rope_theta", "rope_scaling"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = LLAMA_SIZES
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "intermediate_size", "head_size")
    linear: ClassVar[tuple[str, ...]] = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    hugging_face: ClassVar[Mapping[str, HuggingFaceConfig]] = hf_layouts.LLAMA

    def __post_init__(self):
        super().__post_init__()
        defaults = {
            "n_kv_head": self.n_head,
            "head_size": self.n_embd // self.n_head,
            "intermediate_size": -(-8 * self.n_embd // (3 * 64)) * 64,
        }
        for name, default in defaults.items():
            object.__setattr__(self, name, default if getattr(self, name) is None else getattr(self, name))
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("norm_eps", "rope_theta"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a finite number above 0")
        if self.n_head % self.n_kv_head:
            heads = f"--n-head {self.n_head} can't be split over --n-kv-head {self.n_kv_head} heads"
            raise UsageError(f"{heads} of keys and values: use a divisor")
        if self.head_size % 2:
            raise UsageError(f"--head-size {self.head_size} is odd, and features are rotated in pairs: use an even one")
        _ = self.rope_rescaling

    @property
    def rope_rescaling(self) -> tuple[float, float, float, float] | None:
        """rope_scaling's four numbers; None: there are none."""
        if self.rope_scaling == "none":
            return None
        try:
            numbers = tuple(map(float, self.rope_scaling.split(",")))
            factor, low, high, context = numbers
        except ValueError:
            numbers = ()
        if not numbers or not all(0 < number < math.inf for number in numbers) or low >= high or context % 1:
            wanted = "four numbers above 0, the second below the third and the last one whole, such as 32,1,4,8192"
            raise UsageError(f"--rope-scaling {self.rope_scaling:.40} is out of range: it must be none, or {wanted}")
        return factor, low, high, context

    def __str__(self) -> str:
        heads = f"{plural(self.n_head, 'head')} of {self.head_size}, {self.n_kv_head} of keys and values"
        return f"{plural(self.n_layer, 'layer')}, {heads}, width {self.n_embd}, perceptron {self.intermediate_size}"


@dataclasses.dataclass(frozen=True)
class GriffinConfig(TransformerConfig):
    """The shape of a Griffin, Hawk or RecurrentGemma, and how it is computed.

    The fields that are None are set to what they stand for; the defaults make a model of GPT-2 124M's size.
    """

    pattern: str = "rra"
    """What the layers are, repeated over --n-layer: r recurrent, a attention; Griffin is rra, Hawk r."""
    n_kv_head: int = 1
    """Heads of keys and values, each for as many of --n-head in a row."""
    intermediate_size: int | None = None
    """Width of the perceptron; by default 3 times --n-embd."""
    lru_width: int | None = None
    """W: width of the recurrence, a multiple of --n-head; by default --n-embd."""
    conv_width: int = 4
    """Tokens that the convolution before a recurrence sees, the current one and those before it."""
    window: int = 1024
    """Tokens that attention sees, the current one and those before it."""
    norm_eps: float = 1e-6
    """Added to the mean square in a norm."""
    rope_theta: float = 10000.0
    """Base of the rotary positions, which half of each head's features have."""
    logits_soft_cap: float = 30.0
    """No logit is beyond it: c * tanh(logit / c); 0: there is none."""
    lora_on: str = "linear_x,linear_y,q_proj,v_proj"

    module: ClassVar[str] = "jaxgpt.models.griffin"
    title: ClassVar[str] = "Griffin"
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "intermediate_size", "pattern", "lru_width"),
        *("conv_width", "window", "norm_eps", "rope_theta", "logits_soft_cap"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = GRIFFIN_SIZES
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "intermediate_size", "lru_width")
    linear: ClassVar[tuple[str, ...]] = (
        *("linear_x", "linear_y", "linear_out", "q_proj", "k_proj", "v_proj", "o_proj"),
        *("gate_proj", "up_proj", "down_proj"),
    )
    hugging_face: ClassVar[Mapping[str, HuggingFaceConfig]] = hf_layouts.GRIFFIN

    def __post_init__(self):
        super().__post_init__()
        for name, default in {"intermediate_size": 3 * self.n_embd, "lru_width": self.n_embd}.items():
            object.__setattr__(self, name, default if getattr(self, name) is None else getattr(self, name))
        for name in ("n_kv_head", "intermediate_size", "lru_width", "conv_width", "window"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        for name in ("norm_eps", "rope_theta"):
            require(0 < getattr(self, name) < math.inf, name, getattr(self, name), "a finite number above 0")
        cap = self.logits_soft_cap
        require(0 <= cap < math.inf, "logits_soft_cap", cap, "a finite number, 0 or above")
        if not self.pattern or {*self.pattern} - {"r", "a"}:
            raise UsageError(f"--pattern {self.pattern!r:.40}: use r, a recurrent layer, and a, attention; such as rra")
        if self.n_head % self.n_kv_head:
            heads = f"--n-head {self.n_head} can't be split over --n-kv-head {self.n_kv_head} heads"
            raise UsageError(f"{heads} of keys and values: use a divisor")
        if self.lru_width % self.n_head:
            width = f"--lru-width {self.lru_width} can't be split over --n-head {self.n_head} blocks"
            raise UsageError(f"{width} of its gates: use a multiple")

    @property
    def kinds(self) -> str:
        """What each of the L layers is, a letter each."""
        return (self.pattern * self.n_layer)[: self.n_layer]

    @property
    def head_size(self) -> int:
        """D: width of a head."""
        return self.n_embd // self.n_head

    def __str__(self) -> str:
        heads = f"{plural(self.n_head, 'head')}, {self.n_kv_head} of keys and values, window {self.window}"
        widths = f"width {self.n_embd}, recurrence {self.lru_width}, perceptron {self.intermediate_size}"
        return f"{plural(self.n_layer, 'layer')}, pattern {self.pattern}, {heads}, {widths}"


@dataclasses.dataclass(frozen=True)
class BertConfig(TransformerConfig):
    """The shape of a BERT or RoBERTa, and how it is computed. The defaults are BERT base's."""

    block_size: int = 512
    intermediate_size: int | None = None
    """Width of the perceptron; by default 4 times --n-embd."""
    token_types: int = 2
    """Kinds of tokens, which have an embedding each: the second is for the second text of a pair."""
    position_offset: int = 0
    """The embedding of a text's first position; a RoBERTa of transformers has 2, and no use for those before it."""
    norm_eps: float = 1e-12
    """Added to the variance in a norm."""
    lora_on: str = "query,value"

    module: ClassVar[str] = "jaxgpt.models.bert"
    title: ClassVar[str] = "BERT"
    bidirectional: ClassVar[bool] = True
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_embd", "intermediate_size"),
        *("token_types", "position_offset", "norm_eps"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = BERT_SIZES
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "intermediate_size")
    linear: ClassVar[tuple[str, ...]] = (
        *("query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"),
    )
    hugging_face: ClassVar[Mapping[str, HuggingFaceConfig]] = hf_layouts.BERT

    def __post_init__(self):
        super().__post_init__()
        if self.intermediate_size is None:
            object.__setattr__(self, "intermediate_size", 4 * self.n_embd)
        for name in ("intermediate_size", "token_types"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")
        require(0 <= self.position_offset < 2**16, "position_offset", self.position_offset, "from 0 to 65,535")
        require(0 < self.norm_eps < math.inf, "norm_eps", self.norm_eps, "a finite number above 0")
        if self.untied_head:
            raise UsageError("--untied-head: the output matrix of a BERT is its token embedding; leave it out")

    @property
    def family(self) -> str:
        """Whose layout of Hugging Face's it has, by its positions."""
        return "roberta" if self.position_offset else "bert"

    @property
    def head_size(self) -> int:
        """D: width of a head."""
        return self.n_embd // self.n_head

    def __str__(self) -> str:
        shape = f"{plural(self.n_layer, 'layer')}, {plural(self.n_head, 'head')}, width {self.n_embd}"
        return f"{shape}, perceptron {self.intermediate_size}"


CONFIGS: dict[str, type[ModelConfig]] = {
    "gpt2": GPT2Config,
    "llama": LlamaConfig,
    "griffin": GriffinConfig,
    "gated_cnn": GatedCNNConfig,
    "bert": BertConfig,
}
