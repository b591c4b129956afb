"""The shape of a BERT or RoBERTa."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, ClassVar

from jaxgpt.console import plural
from jaxgpt.errors import UsageError, require
from jaxgpt.models import hf_layouts
from jaxgpt.models.configs.base import TransformerConfig
from jaxgpt.models.hf_layouts import HuggingFaceConfig

# Devlin et al. (2019) and Liu et al. (2019), as the released models' config.json have them.
SIZES: dict[str, dict[str, Any]] = {
    "bert-base": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512},
    "roberta-base": {"n_layer": 12, "n_head": 12, "n_embd": 768, "block_size": 512}
    | {"token_types": 1, "position_offset": 2, "norm_eps": 1e-5},
    "tiny": {"n_layer": 2, "n_head": 2, "n_embd": 64, "block_size": 512},
}


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

    arch: ClassVar[str] = "bert"
    module: ClassVar[str] = "jaxgpt.models.bert"
    title: ClassVar[str] = "BERT"
    bidirectional: ClassVar[bool] = True
    shape: ClassVar[tuple[str, ...]] = (
        *("block_size", "n_layer", "n_head", "n_embd", "intermediate_size"),
        *("token_types", "position_offset", "norm_eps"),
    )
    sizes: ClassVar[Mapping[str, Mapping[str, Any]]] = SIZES
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
