"""A classifier's config.json and its tokenizer's files. What a model's shape says is in test_weights.py."""

import json
import re
from pathlib import Path

import pytest

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, TEMPLATE
from jaxgpt.data.tokenizer import PLAIN, Template
from jaxgpt.errors import CheckpointError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.hf_config import parse_config, read_text_format

GPT2 = {"model_type": "gpt2", "vocab_size": 97, "n_positions": 64, "n_layer": 2, "n_head": 3, "n_embd": 33}
CLASSIFIER = GPT2 | {"architectures": ["GPT2ForSequenceClassification"]}
PATH = Path("folder/config.json")


def test_the_labels_of_a_classifier_are_in_the_order_of_their_numbers():
    names = {str(number): f"label {number}" for number in reversed(range(11))}
    config, labels = parse_config(PATH, CLASSIFIER | {"id2label": names, "problem_type": None})
    assert labels == tuple(f"label {number}" for number in range(11)) and config.n_labels == 11
    assert parse_config(PATH, CLASSIFIER)[1] == ("LABEL_0", "LABEL_1")  # transformers leaves its defaults out
    assert parse_config(PATH, CLASSIFIER | {"num_labels": 3, "id2label": None})[1][2] == "LABEL_2"
    for changes in ({"id2label": {"0": "x"}}, {"num_labels": 1, "problem_type": "regression"}):
        config, labels = parse_config(PATH, CLASSIFIER | changes)  # one is a reward, whatever it is called
        assert labels == ("reward",) and config.n_labels == 1
    _, labels = parse_config(PATH, CLASSIFIER | {"id2label": {"0": "score"}})  # but for a regression of ours
    assert labels == ("score",)
    assert parse_config(PATH, GPT2 | {"id2label": names})[1] == ()  # every config.json may have them


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"problem_type": "regression"}, "problem_type is 'regression', and must be 'single_label_classification'"),
        ({"problem_type": "multi_label_classification"}, "problem_type is 'multi_label_classification', and must"),
        ({"id2label": {"0": "x"}, "problem_type": "single_label_classification"}, "problem_type is 'single_label_cla"),
        ({"id2label": {"0": "a", "2": "b"}}, "id2label is {'0': 'a', '2': 'b'}, and must name one"),
        ({"id2label": {"0": "a", "1": "a"}}, "id2label is {'0': 'a', '1': 'a'}, and must name one"),
        ({"id2label": {"0": "a", "1": "\ud800"}}, "id2label is {'0': 'a', '1': '\\ud800'}, and must name one"),
        ({"id2label": ["a", "b"]}, "id2label is ['a', 'b'], and must name one"),
        ({"id2label": 3}, "id2label is 3, and must name one"),
    ],
    ids=str,
)
def test_labels_that_are_none_are_refused(changes, message):
    with pytest.raises(CheckpointError, match=re.escape(f"{PATH}: {message}")):
        parse_config(PATH, CLASSIFIER | changes)


def test_the_one_output_of_an_encoder_is_no_reward():
    bert = {"model_type": "bert", "vocab_size": 97, "max_position_embeddings": 64, "num_hidden_layers": 2}
    bert |= {"num_attention_heads": 3, "hidden_size": 33, "intermediate_size": 44}
    bert |= {"architectures": ["BertForSequenceClassification"], "id2label": {"0": "LABEL_0"}}
    with pytest.raises(CheckpointError, match=r"id2label is \{'0': 'LABEL_0'\}, and must name two labels or more"):
        parse_config(PATH, bert)
    assert parse_config(PATH, bert | {"id2label": {"0": "score"}})[1] == ("score",)


def test_an_unset_tie_is_gpt2s():
    assert not parse_config(PATH, GPT2 | {"tie_word_embeddings": None})[0].untied_head
    assert parse_config(PATH, GPT2 | {"tie_word_embeddings": False})[0].untied_head


def write(folder, name, content):
    (folder / name).write_text(json.dumps(content))


def piece(kind, name):
    return {kind: {"id": name, "type_id": 0}}


A, B, END = piece("Sequence", "A"), piece("Sequence", "B"), piece("SpecialToken", "<|endoftext|>")
TOKENS = {"<|endoftext|>": {"id": "<|endoftext|>", "ids": [50256], "tokens": ["<|endoftext|>"]}}


def test_what_surrounds_a_text_is_what_its_tokenizer_inserts(tmp_path):
    assert read_text_format(tmp_path, GPT2Config(block_size=64)) == (64, PLAIN)  # no tokenizer: GPT-2's own
    assert read_text_format(tmp_path, GPT2Config(block_size=64), pad_id=0) == (
        64,
        None,
    )  # exports without a tokenizer.json
    for name, content in GPT2_TOKENIZER.hugging_face_files(48, TEMPLATE).items():
        (tmp_path / name).write_text(content)
    assert read_text_format(tmp_path, GPT2Config(block_size=64)) == (48, TEMPLATE)
    assert read_text_format(tmp_path, GPT2Config(block_size=32)) == (32, TEMPLATE)
    write(tmp_path, "tokenizer_config.json", {"model_max_length": int(1e30)})  # what transformers has for "unknown"
    both = {"type": "TemplateProcessing", "single": [A, END], "pair": [A, END, B, END], "special_tokens": TOKENS}
    for post, template in (
        (None, PLAIN),
        ({"type": "ByteLevel", "trim_offsets": False}, PLAIN),
        (both, Template((), (50256,), (50256,))),
        ({"type": "Sequence", "processors": [{"type": "ByteLevel"}, both]}, Template((), (50256,), (50256,))),
        (both | {"single": [END, A], "pair": [END, A, B]}, Template((50256,), (), ())),
    ):
        write(tmp_path, "tokenizer.json", {"post_processor": post})
        assert read_text_format(tmp_path, GPT2Config(block_size=64)) == (64, template)
    for post, message in (
        (both | {"pair": [A, END, B]}, "surrounds pairs in another way than single texts"),
        (both | {"special_tokens": {"<|endoftext|>": {"ids": 64 * [50256]}}}, "leaves no room for a text in 64 tokens"),
        (both | {"special_tokens": {"<|endoftext|>": {"ids": [-1]}}}, "no post_processor of transformers'"),
        (both | {"special_tokens": {"<|endoftext|>": {"ids": ["50256"]}}}, "no post_processor of transformers'"),
        (both | {"special_tokens": {}}, "no post_processor of transformers'"),
        ("both", "no post_processor of transformers'"),
    ):
        write(tmp_path, "tokenizer.json", {"post_processor": post})
        with pytest.raises(CheckpointError, match=rf"tokenizer\.json: .*{message}"):
            read_text_format(tmp_path, GPT2Config(block_size=64))
    for name, value in (("truncation_side", "left"), ("add_prefix_space", True)):
        write(tmp_path, "tokenizer_config.json", {name: value})
        with pytest.raises(CheckpointError, match=rf"tokenizer_config\.json: {name} is {value!r}; only .* is read"):
            read_text_format(tmp_path, GPT2Config(block_size=64))
