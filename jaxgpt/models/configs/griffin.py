"""The shape of a Griffin, Hawk or RecurrentGemma."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models import hf_layouts
from jaxgpt.models.configs.base import TransformerConfig
from jaxgpt.models.hf_layouts import HuggingFaceConfig

# RecurrentGemma's are Botev et al.'s (2024), "RecurrentGemma: Moving Past Transformers", table 1.
SIZES: dict[str, dict[str, Any]] = {
    "griffin-124m": {"n_layer": 12, "n_head": 12, "n_kv_head": 1, "n_embd": 768},
    "recurrentgemma-2b": {"n_layer": 26, "n_head": 10, "n_kv_head": 1, "n_embd": 2560, "window": 2048}
    | {"block_size": 8192},
    "tiny": {"n_layer": 3, "n_head": 2, "n_embd": 64, "window": 64},
}


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

    arch: ClassVar[str] = "griffin"
    module: ClassVar[str] = "jaxgpt.models.griffin"
    title: ClassVar[str] = "Griffin"
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_kv_head", "n_embd", "intermediate_size", "pattern", "lru_width"),
        *("conv_width", "window", "norm_eps", "rope_theta", "logits_soft_cap"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
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
