"""The shapes of models: what one is made from, checked before JAX is imported; a file and a line an architecture."""

from jaxgpt.models.configs.base import ModelConfig, TransformerConfig
from jaxgpt.models.configs.bert import BertConfig
from jaxgpt.models.configs.gated_cnn import GatedCNNConfig
from jaxgpt.models.configs.gpt2 import SIZES, GPT2Config
from jaxgpt.models.configs.griffin import GriffinConfig
from jaxgpt.models.configs.llama import LlamaConfig

__all__ = [
    "CONFIGS",
    "REWARD",
    "SCORE",
    "SIZES",
    "BertConfig",
    "GPT2Config",
    "GatedCNNConfig",
    "GriffinConfig",
    "LlamaConfig",
    "ModelConfig",
    "TransformerConfig",
]

SCORE = ("score",)  # the labels of a model that gives a text a number
REWARD = ("reward",)  # the labels of a reward model, whose head has one output
CONFIGS: dict[str, type[ModelConfig]] = {
    config.arch: config for config in (GPT2Config, LlamaConfig, GriffinConfig, GatedCNNConfig, BertConfig)
}
