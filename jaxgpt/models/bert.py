"""BERT and RoBERTa: encoders, whose tokens see those on both sides, with Hugging Face's weights.

Devlin et al. (2019), "BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding"; Liu et al.
(2019), "RoBERTa: A Robustly Optimized BERT Pretraining Approach". The norm is behind each sublayer's residual sum.
Letters: B batch, T time, C embedding width, H heads, D head size, L layers, V vocabulary.
"""

import functools
import re

import jax
import jax.numpy as jnp

from jaxgpt.models import layers
from jaxgpt.models.base import REPLICATED, HuggingFaceTensors, Rules, matmul_precision
from jaxgpt.models.configs import BertConfig
from jaxgpt.models.layers import (
    Module,
    Param,
    Rngs,
    dropout,
    embedding,
    fold,
    in_float32_on_cpu,
    label_head,
    layer_keys,
    layer_norm,
    linear,
    pooler,
    remat,
    stack,
    vocabulary,
)
from jaxgpt.models.ops.attention import attention, first_visible_positions

BIAS_COLUMNS = 8  # of `hidden` for the bias of the logits: 16 bytes in bfloat16, so that a GPU's products stay aligned


class Bert(Module):
    """Token ids in, what predicts the masked ones out, or with config.n_labels the label; blocks stacked in `layer`."""

    STACKS = ("layer",)

    def __init__(self, config: BertConfig, key: jax.Array):
        rngs = Rngs(key)
        self.config = config
        self.word_embeddings = vocabulary(config, rngs)
        self.position_embeddings = embedding(config.block_size + config.position_offset, config.n_embd, rngs)
        self.token_type_embeddings = embedding(config.token_types, config.n_embd, rngs)
        self.norm = layer_norm(config, rngs, config.norm_eps)
        self.layer = stack(functools.partial(Block, config), config.n_layer, rngs)
        if config.n_labels:
            self.pooler = pooler(config, rngs)
            self.score = label_head(config, rngs, use_bias=True)
        else:
            self.lm_head = MaskedHead(config, rngs)

    def encode(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        keys: jax.Array | None = None,
        token_types: jax.Array | None = None,
    ) -> jax.Array:
        """The last block's output, (B, T, C); arguments of base.Model.hidden, and token_types.

        Args:
          positions: as there; padding is a document of its own, with the positions 0, 1, ...
          token_types: int (B, T), 1 in the second text of a pair; None: 0.
        """
        (B, T), config = tokens.shape, self.config
        if T > config.block_size:
            raise ValueError(f"{T} tokens are more than the model's block_size of {config.block_size}")
        with matmul_precision(config):
            first = first_visible_positions(positions)
            x = self._embed(tokens, jnp.arange(T)[None] if positions is None else positions, token_types)
            x = dropout(x.reshape(B * T, -1), fold(keys, 0), config.dropout)
            run = remat(lambda x, layer: (layer[0](x, T, first, layer[1]), None), config.remat)
            x, _ = jax.lax.scan(run, x, (self.layer, layer_keys(keys, config.n_layer)), unroll=config.unroll)
            return x.reshape(B, T, -1)

    def hidden(
        self,
        tokens: jax.Array,
        positions: jax.Array | None = None,
        keys: jax.Array | None = None,
        token_types: jax.Array | None = None,
    ) -> jax.Array:
        """What the output matrix reads to predict each token, (B, T, C + 8); arguments of `encode`.

        Behind the C features are a one, which the bias of the logits is multiplied by, and seven zeros.
        """
        x = self.encode(tokens, positions, keys, token_types)
        with matmul_precision(self.config):
            x = self.lm_head(x)
        one = jnp.zeros((*x.shape[:2], BIAS_COLUMNS), x.dtype).at[..., 0].set(1)
        return jnp.concatenate([x, one], axis=-1)

    def unembedding(self) -> jax.Array:
        """The output matrix, float32 (V, C + 8), V padded: the token embedding, the bias of the logits, and zeros."""
        table, bias = self.word_embeddings.embedding[...], self.lm_head.bias[...]
        padding = ((0, table.shape[0] - bias.shape[0]), (0, BIAS_COLUMNS - 1))
        return jnp.concatenate([table, jnp.pad(bias[:, None], padding)], axis=1)

    def label_logits(self, first: jax.Array) -> jax.Array:
        """A logit for each label, float32 (B, n_labels), of the output of `encode` at the first token, (B, C)."""
        with matmul_precision(self.config), jax.named_scope("head"):
            return self.score(jnp.tanh(self.pooler(first.astype(jnp.float32))))

    def _embed(self, tokens: jax.Array, positions: jax.Array, token_types: jax.Array | None) -> jax.Array:
        """Token plus position plus type embedding, and their norm, (B, T, C)."""
        # The gathers are from the float32 tables, so that their gradients are summed in float32.
        x = self.word_embeddings(tokens) + self.position_embeddings(positions + self.config.position_offset)
        x = x + self.token_type_embeddings(jnp.zeros((1, 1), jnp.int32) if token_types is None else token_types)
        return self.norm(x.astype(self.config.dtype))


class Block(Module):
    """Post-LayerNorm transformer block: attention, then a perceptron; each is added to its input, then the norm."""

    def __init__(self, config: BertConfig, rngs: Rngs):
        C, inner = config.n_embd, config.intermediate_size
        self.n_head, self.implementation, self.dropout = config.n_head, config.attention, config.dropout
        self.query, self.key, self.value = (linear(config, name, C, C, rngs) for name in ("query", "key", "value"))
        self.attention_output = linear(config, "attention.output.dense", C, C, rngs)
        self.attention_norm = layer_norm(config, rngs, config.norm_eps)
        self.intermediate = linear(config, "intermediate.dense", C, inner, rngs)
        self.output = linear(config, "output.dense", inner, C, rngs)
        self.output_norm = layer_norm(config, rngs, config.norm_eps)

    def __call__(
        self, x: jax.Array, T: int, first: jax.Array | None = None, keys: jax.Array | None = None
    ) -> jax.Array:
        x = self.attention_norm(x + dropout(self.attend(x, T, first), fold(keys, 0), self.dropout))
        return self.output_norm(x + dropout(self.perceptron(x), fold(keys, 1), self.dropout))  # (B*T, C)

    @jax.named_scope("attention")
    def attend(self, x: jax.Array, T: int, first: jax.Array | None) -> jax.Array:
        """Self-attention over the whole document; `first` is its first token, int (B, T)."""
        q, k, v = (z(x).reshape(-1, T, self.n_head, x.shape[-1] // self.n_head) for z in self.qkv())
        return self.attention_output(attention(q, k, v, first, self.implementation, causal=False).reshape(x.shape))

    def qkv(self) -> tuple[layers.Linear, layers.Linear, layers.Linear]:
        return self.query, self.key, self.value

    @jax.named_scope("mlp")
    def perceptron(self, x: jax.Array) -> jax.Array:
        return self.output(jax.checkpoint(gelu)(self.intermediate(x)))


class MaskedHead(Module):
    """What the token embedding is multiplied by to predict masked tokens, (B, T, C); its bias is the logits', (V,)."""

    def __init__(self, config: BertConfig, rngs: Rngs):
        self.dense = layers.Linear(config.n_embd, config.n_embd, 0.02, rngs)
        self.norm = layer_norm(config, rngs, config.norm_eps)
        self.bias = Param(jnp.zeros(config.vocab_size))

    @jax.named_scope("head")
    def __call__(self, x: jax.Array) -> jax.Array:
        return self.norm(gelu(self.dense(x.reshape(-1, x.shape[-1])))).reshape(x.shape)


def gelu(x: jax.Array) -> jax.Array:
    """GELU (Hendrycks & Gimpel, 2016), exact: x times the normal distribution function."""
    return in_float32_on_cpu(functools.partial(jax.nn.gelu, approximate=False), x)


SHARDING_RULES: Rules = {"pooler": REPLICATED} | layers.SHARDING_RULES  # which computes in float32


# ---- Hugging Face's names

BODY = {  # of both, behind the prefix
    "norm": "embeddings.LayerNorm",
    "layer.query": "encoder.layer.attention.self.query",
    "layer.key": "encoder.layer.attention.self.key",
    "layer.value": "encoder.layer.attention.self.value",
    "layer.attention_output": "encoder.layer.attention.output.dense",
    "layer.attention_norm": "encoder.layer.attention.output.LayerNorm",
    "layer.intermediate": "encoder.layer.intermediate.dense",
    "layer.output": "encoder.layer.output.dense",
    "layer.output_norm": "encoder.layer.output.LayerNorm",
    **{f"{each}_embeddings": f"embeddings.{each}_embeddings" for each in ("word", "position", "token_type")},
}
HEADS = {
    "bert": {
        "lm_head.dense": "cls.predictions.transform.dense",
        "lm_head.norm": "cls.predictions.transform.LayerNorm",
        "lm_head": "cls.predictions",
        "pooler": "bert.pooler.dense",
        "score": "classifier",
    },
    "roberta": {
        "lm_head.dense": "lm_head.dense",
        "lm_head.norm": "lm_head.layer_norm",
        "lm_head": "lm_head",
        "pooler": "classifier.dense",
        "score": "classifier.out_proj",
    },
}


def hf_names(path: tuple, config: BertConfig) -> list[str]:
    """What Hugging Face calls a leaf of Bert, by its path in the tree: one name, or one for each layer of a stack.

    `.norm.scale.value` -> `bert.embeddings.LayerNorm.weight`; `.layer.query.kernel.value` -> that of layer 0,
    `bert.encoder.layer.0.attention.self.query.weight`, ...
    """
    *module, leaf = jax.tree_util.keystr(path).strip(".").removesuffix(".value").split(".")
    module, leaf = ".".join(module), re.sub("^(kernel|scale|embedding)$", "weight", leaf)
    name = f"{config.family}.{BODY[module]}" if module in BODY else HEADS[config.family][module]
    if not module.startswith("layer."):
        return [f"{name}.{leaf}"]
    return [f"{name}.{leaf}".replace(".layer.", f".layer.{layer}.") for layer in range(config.n_layer)]


def hugging_face(config: BertConfig) -> HuggingFaceTensors:
    """Of the one or the other family."""
    heads = HEADS[config.family]
    return HuggingFaceTensors(
        names=hf_names,
        transposed=lambda path: path[-2].name == "kernel",
        prefix=f"{config.family}.",
        embedding=f"{config.family}.embeddings.word_embeddings.weight",
        head=f"{heads['lm_head']}.decoder.weight",
        labels=f"{heads['score']}.weight",
        # The decoder's bias is the head's own once more. The pooler of a masked language model predicts the next
        # sentence, or nothing.
        skipped=re.compile(
            r"embeddings\.position_ids|pooler\.dense\.(weight|bias)|cls\.seq_relationship\.(weight|bias)"
            r"|(cls\.predictions|lm_head)\.decoder\.bias"
        ),
    )


MODEL, HUGGING_FACE = Bert, hugging_face
