"""The shape of a model, as flags. No JAX."""

import ast
import dataclasses
import inspect
import itertools
import math
from typing import Any, Literal

from jaxgpt.errors import UsageError, require
from jaxgpt.models.configs import CONFIGS, GPT2Config, ModelConfig


def _help(config: type[ModelConfig]) -> dict[str, str]:
    """The strings below the fields of a config, by field."""
    (defined,) = ast.parse(inspect.getsource(config)).body
    return {
        field.target.id: " ".join(text.value.value.split())
        for field, text in itertools.pairwise(defined.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


# The flags of a shape that GPT-2 doesn't have, each a field of the config of an architecture or several.
ARCH_FLAGS = {
    field.name: field
    for arch, config in CONFIGS.items()
    for field in dataclasses.fields(config)
    if field.name in config.shape and field.name not in GPT2Config.shape
}
_HELPS = {arch: _help(config) for arch, config in CONFIGS.items()}
_ATTRIBUTES = "".join(
    f"\n  {name}: " + " ".join(f"With --arch {arch}: {text[name]}" for arch, text in _HELPS.items() if name in text)
    for name in ARCH_FLAGS
)
ArchFlags = dataclasses.make_dataclass(
    "ArchFlags",
    [
        (name, bool, False) if field.type is bool else (name, field.type | None, None)
        for name, field in ARCH_FLAGS.items()
    ],
    namespace={"__doc__": f"None: the architecture's default.\n\nAttributes:{_ATTRIBUTES}"},
    frozen=True,
)


@dataclasses.dataclass(frozen=True)
class ModelFlags(ArchFlags):
    """The model's shape, and which part of it is trained."""

    n_layer: int = GPT2Config.n_layer
    """Transformer blocks."""
    n_head: int = GPT2Config.n_head
    """Attention heads a block."""
    n_embd: int = GPT2Config.n_embd
    """Width of the model; a multiple of --n-head."""
    block_size: int = GPT2Config.block_size
    """The longest context the model can take, in tokens."""
    untied_head: bool = False
    """Learn a separate output matrix; GPT-2's is its token embedding. 39 million parameters more at width 768."""
    pad_vocab_to_multiple_of: int = GPT2Config.pad_vocab_to_multiple_of
    """Rows of the token embedding: --vocab-size, rounded up to a multiple of this; same losses, and 128 suits a GPU."""
    vocab_size: int | None = dataclasses.field(default=None, metadata={"may_change": True})
    """Token ids of the model; by default as many as the tokenizer has."""
    dropout: float = 0.0
    """In training, the share of the embedding's and of every sublayer's output that is set to 0."""
    lora: int = 0
    """Rank of low-rank adapters, which are then trained in place of the weights of --init-from; 0: none."""
    lora_alpha: float = GPT2Config.lora_alpha
    """What the adapters add is multiplied by this, over their rank."""
    lora_on: str = GPT2Config.lora_on
    """Linear layers with adapters, with commas between: attn.c_attn, attn.c_proj, mlp.c_fc, mlp.c_proj of a GPT-2;
    q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj of a Llama, by default q_proj,v_proj; of a Griffin
    linear_x, linear_y, linear_out too, and by default linear_x,linear_y,q_proj,v_proj; query, key, value,
    attention.output.dense, intermediate.dense, output.dense of a BERT, by default query,value."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute dtype; auto is bfloat16 on a GPU that has it, else float32. Parameters are float32 always."""
    remat: Literal["none", "dots", "full"] = dataclasses.field(default="none", metadata={"may_change": True})
    """Saves memory: the backward pass computes again nothing; all but the linear layers; each block."""

    def __post_init__(self):
        require(
            1 <= self.pad_vocab_to_multiple_of <= 2**16,
            "pad_vocab_to_multiple_of",
            self.pad_vocab_to_multiple_of,
            "from 1 to 65,536",
        )
        size = self.vocab_size
        require(size is None or 1 <= size < 2**24, "vocab_size", size, "from 1 to 2**24 - 1")
        require(0 <= self.lora < 2**31, "lora", self.lora, "from 0 to 2**31 - 1")
        require(0 < self.lora_alpha < math.inf, "lora_alpha", self.lora_alpha, "a finite number above 0")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "from 0 to below 1")

    def config(self, arch: str = "gpt2", predict_tokens: int = 1, **overrides: Any) -> ModelConfig:
        """The model's config; `overrides` is what the device (dtype, remat, ...) and the data (n_labels) decide.

        Raises:
          UsageError: flags of a model's shape are given that the architecture doesn't have, or don't fit each other.
        """
        config = CONFIGS[arch]
        fields = {field.name for field in dataclasses.fields(config)} - {"dtype", "remat"}
        defaults = {field.name: field.default for field in dataclasses.fields(ModelFlags)} | {"predict_tokens": 1}
        shape_flags = {}
        for name, value in (vars(self) | {"predict_tokens": predict_tokens}).items():
            if name in fields:  # the default of lora_on is GPT-2's layers, and stands for those of any architecture
                unset = value is None or (name == "lora_on" and value == defaults[name])
                shape_flags |= {} if unset else {name: value}
            elif name in _FIELDS and value != defaults[name]:
                has = ", ".join("--" + flag.replace("_", "-") for flag in config.shape)
                flag = "--" + name.replace("_", "-")
                raise UsageError(f"{flag} {value}: --arch {arch} has no such flag; its shape is {has}")
        return config(**shape_flags | overrides)


_FIELDS = {field.name for config in CONFIGS.values() for field in dataclasses.fields(config)} - {"dtype", "remat"}
