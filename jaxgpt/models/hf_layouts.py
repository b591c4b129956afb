"""How config.json in Hugging Face's layout describes the models that we have: a HuggingFaceConfig for each. No JAX."""

import dataclasses
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxgpt.models.configs import ModelConfig


@dataclasses.dataclass(frozen=True)
class HuggingFaceConfig:
    """How config.json describes the models of one model_type.

    Attributes:
      sizes: the integers of a shape: our name for each, by Hugging Face's.
      required: what else decides a model's numbers, and the values that we compute; one that is not there is the first.
      causal_lm, classifier: the classes of transformers: with a head for tokens, and with one for labels.
      tied: whether the head is the token embedding where config.json does not say.
      mismatch: what else of a config.json we don't compute, for a model of this shape; "" if nothing.
    """

    sizes: Mapping[str, str]
    required: Mapping[str, tuple]
    causal_lm: str
    classifier: str
    tied: bool = True
    mismatch: Callable[["ModelConfig", Mapping[str, Any]], str] = lambda config, content: ""


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
        mismatch=lambda config, content: (
            ""
            if content.get("n_inner") in (None, 4 * config.n_embd)
            else f"n_inner is {content['n_inner']!r:.40}: not GPT-2's, which is 4 * n_embd"
        ),
    )
}
