"""What config.json says of a Llama and its kin, and of a RecurrentGemma. GPT-2's is in runs/test_weights.py."""

import re
from pathlib import Path

import pytest

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.hf_config import parse_config

PATH = Path("folder/config.json")
LLAMA = {"model_type": "llama", "vocab_size": 97, "max_position_embeddings": 64, "num_hidden_layers": 2}
LLAMA |= {"num_attention_heads": 4, "hidden_size": 32, "intermediate_size": 48}
QWEN2, QWEN3 = ({"model_type": kind, "num_key_value_heads": 2, "head_dim": 8} for kind in ("qwen2", "qwen3"))
LLAMA3 = {"factor": 8.0, "low_freq_factor": 1, "high_freq_factor": 4.0}


@pytest.mark.parametrize(
    "changes, fields",
    [
        ({}, {"n_kv_head": 4, "head_size": 8, "norm_eps": 1e-6, "rope_theta": 1e4, "untied_head": True}),
        ({"num_key_value_heads": 2, "head_dim": None, "hidden_act": "swish"}, {"n_kv_head": 2, "head_size": 8}),
        ({"head_dim": 6, "rms_norm_eps": 1e-5, "tie_word_embeddings": True}, {"head_size": 6, "untied_head": False}),
        ({"rope_theta": 5e5, "rope_scaling": None}, {"rope_theta": 5e5, "rope_scaling": "none"}),
        ({"rope_theta": 1, "rope_parameters": {"rope_theta": 2, "rope_type": "default"}}, {"rope_theta": 2.0}),
        (
            {"rope_theta": 3, "rope_scaling": LLAMA3 | {"type": "llama3"}},
            {"rope_scaling": "8,1,4,64", "rope_theta": 3.0},
        ),
        (
            {"rope_parameters": LLAMA3 | {"rope_type": "llama3", "original_max_position_embeddings": 32}},
            {"rope_scaling": "8,1,4,32", "rope_rescaling": (8, 1, 4, 32)},
        ),
        (QWEN2 | {"sliding_window": 32, "use_sliding_window": False}, {"qkv_bias": True, "qk_norm": False}),
        (QWEN3 | {"layer_types": ["full_attention"] * 2}, {"qkv_bias": False, "qk_norm": True, "n_kv_head": 2}),
    ],
    ids=str,
)
def test_a_llama_in_every_spelling(changes, fields):
    config, labels = parse_config(PATH, LLAMA | changes)
    assert {name: getattr(config, name) for name in fields} == fields and labels == ()
    assert (config.arch, config.block_size, config.intermediate_size) == ("llama", 64, 48)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"model_type": "mistral"},
            "model_type is 'mistral', which is not supported; 'gpt2', 'llama', 'qwen2', 'qwen3'",
        ),
        ({"model_type": ["llama"]}, "model_type is ['llama'], which is not supported"),
        ({"hidden_act": "gelu"}, "hidden_act is 'gelu': not Llama's architecture, where it is 'silu'"),
        ({"attention_bias": True}, "attention_bias is True: not Llama's architecture, where it is False"),
        ({"mlp_bias": True}, "mlp_bias is True: not Llama's"),
        ({"sliding_window": 32}, "sliding_window is 32: not Llama's architecture, where it is None"),
        (QWEN2 | {"use_sliding_window": True}, "use_sliding_window is True: not Llama's"),
        (QWEN3 | {"attention_bias": True}, "attention_bias is True: not Llama's"),
        (
            QWEN3 | {"layer_types": ["full_attention", "sliding_attention"]},
            "layer_types is ['full_attention', 'sliding",
        ),
        ({"layer_types": 3}, "layer_types is 3; only 'full_attention' in every layer is computed"),
        (QWEN2 | {"num_key_value_heads": None}, "num_key_value_heads is None, and must be a whole number"),
        (
            {"model_type": "qwen3", "num_key_value_heads": 2},
            "no head_dim; a Llama's shape is vocab_size, max_position_",
        ),
        (
            {"num_key_value_heads": 3},
            "n-head 4 can't be split over n-kv-head 3 heads of keys and values: use a divisor",
        ),
        ({"head_dim": 7}, "head-size 7 is odd, and features are rotated in pairs"),
        ({"rms_norm_eps": "1e-5"}, "rms_norm_eps is '1e-5', and must be a number above 0"),
        ({"rope_theta": None}, "rope_theta is None, and must be a number above 0"),
        ({"rope_scaling": "yarn"}, "rope_scaling is 'yarn', and must be an object"),
        ({"rope_scaling": {"type": "yarn"}}, "rope_scaling has the rope_type 'yarn'; only 'default' and 'llama3' are"),
        ({"rope_parameters": {"rope_type": ["x"]}}, "rope_parameters has the rope_type ['x']; only"),
        (
            {"rope_parameters": {"factor": 2.0}},
            "rope_parameters has 'factor', which is not computed for the rope_type 'd",
        ),
        ({"rope_parameters": {"full_attention": {}}}, "rope_parameters has 'full_attention', which is not computed"),
        ({"rope_scaling": {"rope_type": "llama3"}}, "factor is None, and must be a number above 0"),
        (
            {"rope_scaling": LLAMA3 | {"rope_type": "llama3", "low_freq_factor": 5}},
            "rope-scaling 8,5,4,64 is out of range",
        ),
        ({"partial_rotary_factor": 0.5}, "partial_rotary_factor is 0.5; only all features are rotated here"),
    ],
    ids=str,
)
def test_what_of_a_llama_is_not_computed_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=re.escape(f"{PATH}: {message}")) as error:
        parse_config(PATH, LLAMA | changes)
    assert "\n" not in str(error.value)


GRIFFIN = {"model_type": "recurrent_gemma", "vocab_size": 97, "num_hidden_layers": 4, "num_attention_heads": 4}
GRIFFIN |= {"hidden_size": 32, "intermediate_size": 96, "attention_window_size": 16, "conv1d_width": 4}


@pytest.mark.parametrize(
    "changes, fields",
    [
        ({}, {"pattern": "rra", "n_kv_head": 4, "lru_width": 32, "block_size": 8192, "untied_head": False}),
        ({"num_key_value_heads": 1, "lru_width": 40}, {"n_kv_head": 1, "lru_width": 40, "logits_soft_cap": 30.0}),
        ({"block_types": ["attention", "recurrent"], "logits_soft_cap": 5}, {"kinds": "arar", "logits_soft_cap": 5.0}),
        ({"_block_types": ["recurrent"], "rope_theta": 5}, {"pattern": "r", "rope_theta": 5.0}),
        (
            {"rope_parameters": {"rope_type": "default", "rope_theta": 7, "partial_rotary_factor": 0.5}},
            {"rope_theta": 7.0, "norm_eps": 1e-6},
        ),
    ],
    ids=str,
)
def test_a_griffin_in_every_spelling(changes, fields):
    config, _ = parse_config(PATH, GRIFFIN | changes)
    assert {name: getattr(config, name) for name in fields} == fields
    assert (config.arch, config.intermediate_size, config.window, config.conv_width) == ("griffin", 48, 16, 4)


@pytest.mark.parametrize(
    "changes, message",
    [
        (
            {"hidden_activation": "relu"},
            "hidden_activation is 'relu': not Griffin's architecture, where it is 'gelu_py",
        ),
        ({"attention_bias": True}, "attention_bias is True: not Griffin's"),
        ({"block_types": "rra"}, "block_types is 'rra', and must be a list of 'recurrent' and 'attention'"),
        ({"block_types": ["recurrent", ["x"]]}, "block_types is ['recurrent', ['x']], and must"),
        ({"rope_parameters": {"rope_type": "yarn"}}, "rope_parameters is {'rope_type': 'yarn'}; only"),
        ({"partial_rotary_factor": 1.0}, "partial_rotary_factor is 1.0; only half of the features are rotated"),
        ({"logits_soft_cap": None}, "logits_soft_cap is None, and must be a number above 0"),
        ({"num_key_value_heads": 3}, "n-head 4 can't be split over n-kv-head 3 heads"),
        ({"lru_width": 30}, "lru-width 30 can't be split over n-head 4 blocks"),
        ({"intermediate_size": 1}, "intermediate-size 0 is out of range"),
        ({"attention_window_size": 0}, "attention_window_size is 0, and must be a whole number"),
    ],
    ids=str,
)
def test_what_of_a_griffin_is_not_computed_is_refused(changes, message):
    with pytest.raises(CheckpointError, match=re.escape(f"{PATH}: {message}")) as error:
        parse_config(PATH, GRIFFIN | changes)
    assert "\n" not in str(error.value)


BERT = {"model_type": "bert", "vocab_size": 97, "num_hidden_layers": 2, "num_attention_heads": 4}
BERT |= {"hidden_size": 32, "intermediate_size": 48, "max_position_embeddings": 66}
ROBERTA = BERT | {"model_type": "roberta"}


@pytest.mark.parametrize(
    "content, fields",
    [
        (BERT, {"block_size": 66, "position_offset": 0, "token_types": 2, "norm_eps": 1e-12, "family": "bert"}),
        (
            BERT | {"type_vocab_size": 1, "layer_norm_eps": 1e-5, "pad_token_id": 9},
            {"token_types": 1, "block_size": 66},
        ),
        (ROBERTA, {"block_size": 64, "position_offset": 2, "family": "roberta", "norm_eps": 1e-12}),
        (
            ROBERTA | {"pad_token_id": 0, "position_embedding_type": "absolute"},
            {"block_size": 65, "position_offset": 1},
        ),
    ],
    ids=str,
)
def test_a_bert_in_every_spelling(content, fields):
    """And what is written of it is read as the same."""
    config, _ = parse_config(PATH, content)
    assert {name: getattr(config, name) for name in fields} == fields and config.intermediate_size == 48
    layout = config.hugging_face[config.family]
    written = {name: getattr(config, ours) for name, ours in (layout.sizes | layout.optional).items()}
    assert parse_config(PATH, {"model_type": config.family} | written | layout.written(config))[0] == config


@pytest.mark.parametrize(
    "content, message",
    [
        (BERT | {"hidden_act": "gelu_new"}, "hidden_act is 'gelu_new': not BERT's architecture, where it is 'gelu'"),
        (BERT | {"position_embedding_type": "relative_key"}, "position_embedding_type is 'relative_key': not BERT's"),
        (BERT | {"is_decoder": True}, "is_decoder is True: not BERT's architecture, where it is False"),
        (BERT | {"add_cross_attention": True}, "add_cross_attention is True: not BERT's"),
        (
            BERT | {"tie_word_embeddings": False},
            "tie_word_embeddings is False: not BERT's",
        ),
        (BERT | {"layer_norm_eps": 0}, "layer_norm_eps is 0, and must be a number above 0"),
        (BERT | {"type_vocab_size": 0}, "type_vocab_size is 0, and must be a whole number, from 1"),
        (BERT | {"num_attention_heads": 5}, "n-embd 32 can't be split over n-head 5 heads"),
        (ROBERTA | {"pad_token_id": None}, "pad_token_id is None, and must be a position, which the first token's is"),
        (ROBERTA | {"pad_token_id": 65}, "pad_token_id is 65, and must be a position"),
        (ROBERTA | {"pad_token_id": [1]}, "pad_token_id is [1], and must be a position"),
    ],
    ids=str,
)
def test_what_of_a_bert_is_not_computed_is_refused(content, message):
    with pytest.raises(CheckpointError, match=re.escape(f"{PATH}: {message}")) as error:
        parse_config(PATH, content)
    assert "\n" not in str(error.value)
