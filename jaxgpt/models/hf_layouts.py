"""How config.json in Hugging Face's layout describes the models that we have: a HuggingFaceConfig for each. No JAX.

A `config` is the one of configs that has the layout.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxgpt.errors import UsageError


@dataclasses.dataclass(frozen=True)
class HuggingFaceConfig:
    """How config.json describes the models of one model_type.

    Attributes:
      sizes: the integers of a shape: our name for each, by Hugging Face's.
      required: what else decides a model's numbers, and the values that we compute; one that is not there is the first.
      causal_lm, classifier: the classes of transformers: with a head for tokens, and with one for labels.
      tied: whether the head is the token embedding where config.json does not say.
      optional: as sizes, of those that may be null or left out: then they are the architecture's default.
      fields: what our config has of all such models.
      read: (config, content) to further fields of our config, of one that has the sizes, and of config.json;
        a ValueError says what in it we don't compute.
      written: (config) to the fields of config.json that `read` reads.
    """

    sizes: Mapping[str, str]
    required: Mapping[str, tuple]
    causal_lm: str
    classifier: str
    tied: bool = True
    optional: Mapping[str, str] = dataclasses.field(default_factory=dict)
    fields: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    read: Callable[[Any, Mapping[str, Any]], dict[str, Any]] = lambda config, content: {}
    written: Callable[[Any], dict[str, Any]] = lambda config: {}


def _read_gpt2(config: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    if content.get("n_inner") not in (None, 4 * config.n_embd):
        raise ValueError(f"n_inner is {content['n_inner']!r:.40}: not GPT-2's, which is 4 * n_embd")
    return {}


GPT2 = {
    "gpt2": HuggingFaceConfig(
        sizes={
            "vocab_size": "vocab_size",
            "n_positions": "block_size",
            "n_layer": "n_layer",
            "n_head": "n_head",
            "n_embd": "n_embd",
        },
        required={
            "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
            "layer_norm_epsilon": (1e-5,),
            "scale_attn_weights": (True,),
            "scale_attn_by_inverse_layer_idx": (False,),
            "add_cross_attention": (False,),
        },
        causal_lm="GPT2LMHeadModel",
        classifier="GPT2ForSequenceClassification",
        read=_read_gpt2,
    )
}


# ---- Llama and its kin. Rotary positions are spelled in two ways: rope_theta and rope_scaling up to transformers 4,
# which is written, and rope_parameters, which has both.

RESCALING = ("factor", "low_freq_factor", "high_freq_factor", "original_max_position_embeddings")  # of Llama 3


def _read_llama(config: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    layers = content.get("layer_types")
    if layers is not None and (not isinstance(layers, list) or any(kind != "full_attention" for kind in layers)):
        raise ValueError(f"layer_types is {layers!r:.60}; only 'full_attention' in every layer is computed")
    name = "rope_scaling" if content.get("rope_scaling") else "rope_parameters"
    rope = content.get(name) or {}
    if not isinstance(rope, dict):
        raise ValueError(f"{name} is {rope!r:.40}, and must be an object")
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in ("default", "llama3"):
        raise ValueError(f"{name} has the rope_type {kind!r:.40}; only 'default' and 'llama3' are computed")
    for where in (content, rope):
        if (share := where.get("partial_rotary_factor")) not in (None, 1):
            raise ValueError(f"partial_rotary_factor is {share!r:.40}; only all features are rotated here")
    known = {"rope_type", "type", "rope_theta", "partial_rotary_factor", *(RESCALING if kind == "llama3" else ())}
    if unknown := sorted(rope.keys() - known):
        raise ValueError(f"{name} has {unknown[0]!r:.40}, which is not computed for the rope_type {kind!r}")
    fields = {
        "norm_eps": _number(content, "rms_norm_eps", 1e-6),
        "rope_theta": _number(rope, "rope_theta", _number(content, "rope_theta", 10000.0)),
    }
    if kind == "llama3":
        *others, context = RESCALING
        outside = content if context in content else rope  # transformers takes that one first
        numbers = [*(_number(rope, name) for name in others), _number(outside, context, config.block_size)]
        fields["rope_scaling"] = ",".join(repr(number).removesuffix(".0") for number in numbers)
    return fields


def _write_llama(config: Any) -> dict[str, Any]:
    rope = config.rope_rescaling and {"rope_type": "llama3"} | dict(zip(RESCALING, config.rope_rescaling, strict=True))
    if rope:  # transformers wants an integer
        rope[RESCALING[-1]] = int(rope[RESCALING[-1]])
    return {"rms_norm_eps": config.norm_eps, "rope_theta": config.rope_theta, "rope_scaling": rope}


def _number(content: Mapping[str, Any], name: str, default: float | None = None) -> float:
    value = content.get(name, default)
    if type(value) not in (int, float) or not 0 < value < math.inf:
        raise ValueError(f"{name} is {value!r:.40}, and must be a number above 0")
    return float(value)


def _llama(name: str, required: Mapping[str, tuple], always: Sequence[str], **fields: bool) -> HuggingFaceConfig:
    """One of the family.

    Args:
      name: what its classes are called.
      always: of the sizes that may be left out, those that this one must have: its default is a number.
    """
    optional = {"num_key_value_heads": "n_kv_head", "head_dim": "head_size"}
    sizes = {
        "vocab_size": "vocab_size",
        "max_position_embeddings": "block_size",
        "num_hidden_layers": "n_layer",
        "num_attention_heads": "n_head",
        "hidden_size": "n_embd",
        "intermediate_size": "intermediate_size",
    }
    return HuggingFaceConfig(
        sizes=sizes | {theirs: optional[theirs] for theirs in always},
        required={"hidden_act": ("silu", "swish")} | required,
        causal_lm=f"{name}ForCausalLM",
        classifier=f"{name}ForSequenceClassification",
        tied=False,
        optional={theirs: ours for theirs, ours in optional.items() if theirs not in always},
        fields={"qkv_bias": False, "qk_norm": False} | fields,
        read=_read_llama,
        written=_write_llama,
    )


NO_BIAS, NO_WINDOW = {"attention_bias": (False,)}, {"use_sliding_window": (False,)}
LLAMA = {
    "llama": _llama("Llama", NO_BIAS | {"mlp_bias": (False,), "sliding_window": (None,)}, ()),
    "qwen2": _llama("Qwen2", NO_WINDOW, ("num_key_value_heads",), qkv_bias=True),
    "qwen3": _llama("Qwen3", NO_BIAS | NO_WINDOW, ("num_key_value_heads", "head_dim"), qk_norm=True),
}


# ---- RecurrentGemma, a Griffin

LETTERS = {"recurrent": "r", "attention": "a"}
CONTEXT = 8192  # tokens; a RecurrentGemma was trained on as many, and its config.json has no limit


def _read_griffin(config: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    kinds = content.get("block_types") or content.get("_block_types") or ["recurrent", "recurrent", "attention"]
    if not isinstance(kinds, list) or not all(isinstance(kind, str) and kind in LETTERS for kind in kinds):
        raise ValueError(f"block_types is {kinds!r:.60}, and must be a list of 'recurrent' and 'attention'")
    rope = content.get("rope_parameters") or {}
    if not isinstance(rope, dict) or rope.get("rope_type", "default") != "default":
        raise ValueError(f"rope_parameters is {rope!r:.60}; only the rope_type 'default' is computed")
    share = rope.get("partial_rotary_factor", content.get("partial_rotary_factor", 0.5))
    if share != 0.5:
        raise ValueError(f"partial_rotary_factor is {share!r:.40}; only half of the features are rotated here")
    fields = {
        "pattern": "".join(LETTERS[kind] for kind in kinds),
        "intermediate_size": config.intermediate_size // 2,  # there, of both halves of the gated perceptron
        "norm_eps": _number(content, "rms_norm_eps", 1e-6),
        "rope_theta": _number(rope, "rope_theta", _number(content, "rope_theta", 10000.0)),
        "logits_soft_cap": _number(content, "logits_soft_cap", 30.0),
    }
    if content.get("num_key_value_heads") is None:
        fields["n_kv_head"] = config.n_head
    return fields if content.get("max_position_embeddings") else fields | {"block_size": CONTEXT}


def _write_griffin(config: Any) -> dict[str, Any]:
    if not config.logits_soft_cap:
        raise UsageError(
            "a RecurrentGemma of transformers caps its logits, and this model does not; keep it as its run"
        )
    names = {letter: kind for kind, letter in LETTERS.items()}
    return {
        "block_types": [names[letter] for letter in config.pattern],
        "intermediate_size": 2 * config.intermediate_size,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "partial_rotary_factor": 0.5,
        "logits_soft_cap": config.logits_soft_cap,
    }


GRIFFIN = {
    "recurrent_gemma": HuggingFaceConfig(
        sizes={
            "vocab_size": "vocab_size",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "hidden_size": "n_embd",
            "intermediate_size": "intermediate_size",
            "attention_window_size": "window",
            "conv1d_width": "conv_width",
        },
        required={"hidden_activation": ("gelu_pytorch_tanh", "gelu_new"), "attention_bias": (False,)},
        causal_lm="RecurrentGemmaForCausalLM",
        classifier="",  # transformers has none
        optional={
            "num_key_value_heads": "n_kv_head",
            "lru_width": "lru_width",
            "max_position_embeddings": "block_size",
        },
        read=_read_griffin,
        written=_write_griffin,
    )
}


# ---- BERT and RoBERTa, whose positions begin behind the one of padding


def _read_bert(config: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    return {"norm_eps": _number(content, "layer_norm_eps", 1e-12)}


def _read_roberta(config: Any, content: Mapping[str, Any]) -> dict[str, Any]:
    pad = content.get("pad_token_id", 1)
    if type(pad) is not int or not 0 <= pad < config.block_size - 1:
        raise ValueError(f"pad_token_id is {pad!r:.40}, and must be a position, which the first token's is behind")
    offset = pad + 1
    return _read_bert(config, content) | {"position_offset": offset, "block_size": config.block_size - offset}


def _write_bert(config: Any) -> dict[str, Any]:
    return {"layer_norm_eps": config.norm_eps}


def _write_roberta(config: Any) -> dict[str, Any]:
    positions = {"max_position_embeddings": config.block_size + config.position_offset}
    return _write_bert(config) | positions | {"pad_token_id": config.position_offset - 1}


def _bert(name: str, fields: Mapping[str, Any], read: Callable, written: Callable) -> HuggingFaceConfig:
    """One of the two, with what its classes are called."""
    return HuggingFaceConfig(
        sizes={
            "vocab_size": "vocab_size",
            "max_position_embeddings": "block_size",
            "num_hidden_layers": "n_layer",
            "num_attention_heads": "n_head",
            "hidden_size": "n_embd",
            "intermediate_size": "intermediate_size",
        },
        required={
            "hidden_act": ("gelu",),
            "position_embedding_type": ("absolute",),
            "is_decoder": (False,),
            "add_cross_attention": (False,),
            "tie_word_embeddings": (True,),
        },
        causal_lm=f"{name}ForMaskedLM",
        classifier=f"{name}ForSequenceClassification",
        optional={"type_vocab_size": "token_types"},
        fields=fields,
        read=read,
        written=written,
    )


BERT = {  # the first that has a config's fields is its own
    "bert": _bert("Bert", {"position_offset": 0}, _read_bert, _write_bert),
    "roberta": _bert("Roberta", {}, _read_roberta, _write_roberta),
}
