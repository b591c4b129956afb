"""The shape of a language model of gated convolutions."""

import dataclasses
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxgpt.console import plural
from jaxgpt.errors import require
from jaxgpt.models.configs.base import ModelConfig

SIZES = {
    "gated-cnn-124m": {"n_layer": 12, "n_embd": 768, "bottleneck": 704},
    "tiny": {"n_layer": 4, "n_embd": 64, "bottleneck": 32},
}


@dataclasses.dataclass(frozen=True)
class GatedCNNConfig(ModelConfig):
    """The shape of a language model of gated convolutions, and how it is computed."""

    kernel_size: int = 5
    """k: tokens that a convolution sees, the current one and those before it."""
    bottleneck: int = 384
    """b: width of the convolution over time in each block."""

    arch: ClassVar[str] = "gated_cnn"
    module: ClassVar[str] = "jaxgpt.models.gated_cnn"
    title: ClassVar[str] = "gated CNN"
    shape: ClassVar[tuple[str, ...]] = ("block_size", "n_layer", "n_embd", "kernel_size", "bottleneck")
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
    sharded: ClassVar[tuple[str, ...]] = ("n_embd", "bottleneck")

    def __post_init__(self):
        super().__post_init__()
        for name in ("kernel_size", "bottleneck"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "at least 1")

    def __str__(self) -> str:
        return f"{super().__str__()}, bottleneck {self.bottleneck}, kernels of {plural(self.kernel_size, 'token')}"
