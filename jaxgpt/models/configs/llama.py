"""The shape of a Llama, and of Qwen's and SmolLM's models."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models import hf_layouts
from jaxgpt.models.configs.base import TransformerConfig
from jaxgpt.models.hf_layouts import HuggingFaceConfig

# SmolLM2 (Allal et al., 2025), Qwen3 (Yang et al., 2025) and Llama 3.2 (Meta, 2024), as their config.json have them.
SIZES: dict[str, dict[str, Any]] = {
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

    arch: ClassVar[str] = "llama"
    module: ClassVar[str] = "jaxgpt.models.llama"
    title: ClassVar[str] = "Llama"
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_kv_head", "head_size", "n_embd", "intermediate_size"),
        *("qkv_bias", "qk_norm", "norm_eps", "rope_theta", "rope_scaling"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
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
