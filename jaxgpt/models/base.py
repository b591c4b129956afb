"""The architectures' interface: what a model is to everything else, and what all of them share.

An architecture is a file here, one with a frozen dataclass in configs/, and a line in CONFIGS there. The file here has
  MODEL: the class, called as MODEL(config, key), which is a Model; if it can write text, a Generative;
  SHARDING_RULES: what of its parameters many devices share;
  HUGGING_FACE: what its parameters are called there, if its config has a hugging_face; or a function of the config to
    it, if that depends on it.
Letters: B batch, T time, C width, V vocabulary.
"""

import contextlib
import dataclasses
import functools
import importlib
import re
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Literal, Protocol, runtime_checkable

import jax
import jax.numpy as jnp

from jaxgpt.models.configs import ModelConfig
from jaxgpt.models.ops.cross_entropy import cap_logits

# For a word in a parameter's path, the first that matches: which axis the devices of an fsdp group share, and whether
# the shares are sent in the compute dtype, in which products read them, or as they are. Others are replicated.
Rule = tuple[int | None, Literal["compute", "float32"]]
Rules = Mapping[str, Rule]
REPLICATED: Rule = (None, "float32")

Cache = Any  # a pytree of arrays whose first axis is the texts: keys and values, or a recurrent state


class Model(Protocol):
    """A pytree of float32 parameters that nothing changes after it is made; its config is static."""

    config: ModelConfig
    STACKS: tuple[str, ...]  # names of its attributes that are stacks of layers
    FUSED: Mapping[str, int] = {}  # of layers whose kernel is several side by side: the name, and how many

    def hidden(self, tokens: jax.Array, positions: jax.Array | None = None, keys: jax.Array | None = None) -> jax.Array:
        """What the output matrix reads to predict the next token, or an encoder's masked one, (B, T, C).

        Args:
          tokens: int (B, T), T at most block_size.
          positions: int (B, T), where each token stands in its own document, of which a sequence may hold several, one
            after the other; none sees another. None: each sequence is one document.
          keys: (B,), each sequence's dropout key; None: no dropout, as outside of training.
        """

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C), V padded."""


class Generative(Model, Protocol):
    """A model that can write text, each token computed once; best made of layers.unstack_layers(model)."""

    KEEPS_COLUMNS: bool = False  # whether its cache has a column for each token, so that the last ones can be forgotten

    def init_cache(self, B: int, length: int) -> Cache:
        """An empty cache for B texts of up to `length` tokens."""

    def decode(
        self, tokens: jax.Array, cache: Cache, column: jax.Array, count: jax.Array | None = None
    ) -> tuple[jax.Array, Cache]:
        """What the output matrix reads at each of some tokens, (B, T, C), and the cache with them.

        Args:
          tokens: int (B, T), those of columns column, ..., column + T - 1.
          cache: with all columns before `column`. A text begins in column 0, where all that it had is forgotten.
          column: int (), or (B,) where each text is in a column of its own.
          count: int (B,), how many of the T are tokens of the text. Those behind them are padding: what is returned for
            them means nothing, and no later token sees them. None: all T.
        """


@runtime_checkable
class Speculative(Protocol):
    """A Generative model with further heads, which draft the tokens behind the next one."""

    def init_draft_cache(self, B: int, length: int) -> Cache:
        """As init_cache, for `decode_with_trunk` and `draft`."""

    def decode_with_trunk(
        self, tokens: jax.Array, cache: Cache, column: jax.Array
    ) -> tuple[jax.Array, jax.Array, Cache]:
        """As `decode`; second, what the further heads read, (B, T, C)."""

    def draft(self, trunk: jax.Array, cache: Cache, column: jax.Array, at: jax.Array) -> tuple[jax.Array, Cache]:
        """Each further head's input of the output matrix at one token of each text, and the cache with all tokens.

        Args:
          trunk: (B, T, C), of decode_with_trunk.
          column: as there.
          at: int (B,), which of the T.

        Returns:
          (further heads, B, C), and the new cache.
        """


@dataclasses.dataclass(frozen=True)
class HuggingFaceTensors:
    """What Hugging Face calls the parameters of an architecture.

    Attributes:
      names: of a leaf of the model, by its path and the config: one name, or one for each layer of a stack.
      transposed: whether a leaf, by its path, is (out, in) there.
      prefix: of the names that transformers writes; files without it are read too.
      embedding: the token embedding's name.
      head: the output matrix's, without the prefix; a tied one is the token embedding, and transformers leaves it out.
      labels: the name of the head for labels, without the prefix.
      skipped: names, without the prefix, of what else their files have, such as constants of old versions of
        transformers. A tensor of the model is read even so.
    """

    names: Callable[[tuple, Any], list[str]]
    transposed: Callable[[tuple], bool]
    prefix: str
    embedding: str
    head: str
    labels: str
    skipped: re.Pattern


def architecture(config: ModelConfig) -> ModuleType:
    """The file of an architecture."""
    return importlib.import_module(config.module)


def hugging_face(config: ModelConfig) -> HuggingFaceTensors:
    """What Hugging Face calls the parameters of a model."""
    tensors = architecture(config).HUGGING_FACE
    return tensors if isinstance(tensors, HuggingFaceTensors) else tensors(config)


def build(config: ModelConfig, key: jax.Array) -> Any:
    """A model with random weights; jit it, or ask jax.eval_shape for its shapes alone."""
    return architecture(config).MODEL(config, key)


@functools.cache
def shapes(config: ModelConfig) -> Any:
    """A model of shapes and dtypes in place of weights."""
    return jax.eval_shape(lambda: build(config, jax.random.key(0)))


@jax.named_scope("head")
def unembed(model: Model, x: jax.Array) -> jax.Array:
    """Logits, float32 (..., V), of what the output matrix reads, (..., C)."""
    logits = (x @ model.unembedding().T.astype(x.dtype)).astype(jnp.float32)
    logits = cap_logits(logits, model.config.logits_soft_cap)
    if model.config.padded_vocab_size == model.config.vocab_size:
        return logits
    # Probability 0: for the loss and for a sampler the padded ids do not exist, and their rows get no gradient.
    ids = jax.lax.broadcasted_iota(jnp.int32, logits.shape, logits.ndim - 1)
    return jnp.where(ids < model.config.vocab_size, logits, -jnp.inf)


def next_token_logits(model: Model, x: jax.Array) -> jax.Array:
    """Logits of the next token, float32 (..., V) without padding, of what the output matrix reads, (..., C)."""
    with matmul_precision(model.config):
        return unembed(model, x)[..., : model.config.vocab_size]


def matmul_precision(config: ModelConfig) -> contextlib.AbstractContextManager:
    # float32 shall mean float32: without this, a GPU multiplies it in TF32.
    return jax.default_matmul_precision("highest" if config.dtype == "float32" else "default")
