import dataclasses
import json
import re

import numpy as np
import pytest
from safetensors.numpy import save_file

from jaxgpt.errors import CheckpointError
from jaxgpt.models.configs import SIZES, GPT2Config
from jaxgpt.runs.weights import (
    WeightsRef,
    require_label_model,
    require_reward_model,
    require_text_model,
    resolve_weights,
)

GPT2 = {"model_type": "gpt2", "vocab_size": 97, "n_positions": 64, "n_layer": 2, "n_head": 3, "n_embd": 33}
SHAPE = GPT2Config(block_size=64, n_layer=2, n_head=3, n_embd=33)


def folder(path, config, *, run=False):
    path.mkdir()
    (path / "config.json").write_text(config if isinstance(config, str) else json.dumps(config))
    if run:
        (path / "checkpoints").mkdir()
    return path


def test_a_folder_in_hugging_faces_layout(tmp_path):
    found = resolve_weights(
        folder(tmp_path / "hf", GPT2 | {"n_inner": 132, "attn_pdrop": 0.1, "layer_norm_epsilon": 1e-05})
    )
    assert (found.is_run, found.fetch()) == (False, tmp_path / "hf")
    assert found.config == GPT2Config(vocab_size=97, block_size=64, n_layer=2, n_head=3, n_embd=33)
    assert resolve_weights(folder(tmp_path / "untied", GPT2 | {"tie_word_embeddings": False})).config.untied_head


def test_a_run(tmp_path):
    flags = {"B": 4, "block_size": 64, "n_layer": 2, "n_head": 3, "n_embd": 33, "pad_vocab_to_multiple_of": 128}
    found = resolve_weights(folder(tmp_path / "run", flags, run=True))
    assert (found.is_run, found.fetch()) == (True, tmp_path / "run")
    assert found.config == dataclasses.replace(SHAPE, pad_vocab_to_multiple_of=128)
    del flags["pad_vocab_to_multiple_of"]  # as in a run older than that flag
    assert resolve_weights(folder(tmp_path / "old", flags, run=True)).config == SHAPE
    flags |= {"n_layer": 5, "predict_tokens": 4, "untied_head": True}
    found = resolve_weights(folder(tmp_path / "several", flags, run=True)).config
    assert found == dataclasses.replace(SHAPE, n_layer=5, predict_tokens=4, untied_head=True)
    with pytest.raises(
        CheckpointError, match=r"config\.json: it has no B, T, block_size, fingerprint, steps, versions, "
    ):
        resolve_weights(folder(tmp_path / "empty", {}, run=True))
    with pytest.raises(CheckpointError, match=r"config\.json: predict-tokens 5 is out of range: it must be 1"):
        resolve_weights(folder(tmp_path / "wrong", flags | {"predict_tokens": 5}, run=True))
    with pytest.raises(CheckpointError, match=r"config\.json: untied_head is 1, and must be true or false"):
        resolve_weights(folder(tmp_path / "other", flags | {"untied_head": 1}, run=True))
    with pytest.raises(CheckpointError, match=r"config\.json: n_layer is None, and must be a whole number"):
        resolve_weights(folder(tmp_path / "null", flags | {"n_layer": None}, run=True))
    with pytest.raises(CheckpointError, match=r"config\.json: arch is 'gpt5', and must be one of gpt2"):
        resolve_weights(folder(tmp_path / "newer", flags | {"arch": "gpt5"}, run=True))


def test_names_are_known_without_the_network_and_a_folder_comes_first(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, size in SIZES.items():
        if name != "tiny":
            assert resolve_weights(name).config == GPT2Config(**size)
            assert resolve_weights(f"openai-community/{name}") == resolve_weights(name)
    folder(tmp_path / "gpt2", GPT2)
    assert resolve_weights("gpt2").config.n_layer == 2


@pytest.mark.parametrize(
    "config, message",
    [
        ("{", "config.json: can't be read (Expecting property name"),
        ("[]", "config.json: can't be read (not a JSON object)"),
        ({}, "model_type is None, which is not supported; 'gpt2'"),
        (GPT2 | {"model_type": "mamba"}, "model_type is 'mamba', which is not supported; 'gpt2'"),
        (GPT2 | {"activation_function": "relu"}, "activation_function is 'relu'"),
        (GPT2 | {"layer_norm_epsilon": 1e-6}, "layer_norm_epsilon is 1e-06"),
        *[
            (GPT2 | {name: not allowed[0]}, f"{name} is {not allowed[0]}")
            for name, allowed in list(GPT2Config.hugging_face["gpt2"].required.items())[2:]
        ],
        ("[" * 10**5, "can't be read (nested more than 50 levels"),
        (GPT2 | {"n_embd": 2**62}, "n_embd is 4.611686018427388e+18, and must be a whole number, from 1 to"),
        (GPT2 | {"n_layer": True}, "n_layer is True, and must be a whole number"),
        (GPT2 | {"tie_word_embeddings": "no"}, "tie_word_embeddings is 'no', and must be true or false"),
        (GPT2 | {"n_inner": 64}, "n_inner is 64: not GPT-2's, which is 4 * n_embd"),
        ({name: GPT2[name] for name in GPT2 if name != "n_head"}, "no n_head"),
        (GPT2 | {"n_layer": "2"}, "n_layer is '2', and must be a whole number"),
        (GPT2 | {"n_layer": 0}, "n_layer is 0, and must be a whole number, from 1"),
        (GPT2 | {"n_head": 2}, "n-embd 33 can't be split over n-head 2 heads"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_is_no_gpt2_is_refused(tmp_path, config, message):
    path = folder(tmp_path / "hf", config)
    with pytest.raises(CheckpointError, match=re.escape(message)) as error:
        resolve_weights(path)
    assert str(path / "config.json") in str(error.value)


ABSURD = [0, -1, 2**24, 10**9, 10**12, 10**400, 1e308, float("nan"), True, "7", None, [7], {}]


@pytest.mark.parametrize("run", [False, True])
@pytest.mark.parametrize("name", ["vocab_size", "block_size", "n_layer", "n_head", "n_embd"])
def test_absurd_numbers_are_one_line(tmp_path, name, run):
    key = "n_positions" if name == "block_size" and not run else name
    path = folder(tmp_path / "model", {}, run=run)
    for value in ABSURD:
        (path / "config.json").write_text(json.dumps((vars(SHAPE) if run else GPT2) | {key: value}))
        with pytest.raises(CheckpointError, match=rf"config\.json: {key} is .*, and must be a whole number") as error:
            resolve_weights(path)
        assert len(str(error.value)) < 250


@pytest.mark.parametrize("kind", ["one file", "sharded", "labels"])
def test_more_layers_than_tensors_are_refused_before_jax_is_imported(tmp_path, kind):
    changes = {"architectures": ["GPT2ForSequenceClassification"]} if kind == "labels" else {}
    path = folder(tmp_path / "hf", GPT2 | {"n_layer": 10**6} | changes)
    save_file({"transformer.wte.weight": np.zeros((97, 33), np.float32)}, path / "model.safetensors")
    if kind == "sharded":
        (path / "model.safetensors").rename(path / "a.safetensors")
        index = {"weight_map": {"transformer.wte.weight": "a.safetensors"}}
        (path / "model.safetensors.index.json").write_text(json.dumps(index))
    with pytest.raises(CheckpointError, match=r"1,000,000 layers, and the weights beside it are 1 tensor; copy"):
        resolve_weights(path)


def test_labels_and_adapters_of_a_run_are_checked(tmp_path):
    flags = {"B": 4, "block_size": 64, "n_layer": 2, "n_head": 3, "n_embd": 33}
    path = folder(tmp_path / "run", flags, run=True)
    for changes in (
        *({"labels": ["a", "a"]}, {"labels": ["a"]}, {"labels": ["a", "\ud800"]}, {"labels": {"a": 1, "b": 2}}),
        *({"lora": True}, {"lora": 10**400}, {"lora_alpha": 10**400}, {"lora_alpha": True}, {"lora_on": None}),
    ):
        (path / "config.json").write_text(json.dumps(flags | changes))
        with pytest.raises(CheckpointError, match="its data kind, labels or adapters are invalid"):
            resolve_weights(path)


def test_a_model_of_one_output_is_a_reward_model(tmp_path):
    flags = {"B": 4, "T": 7, "block_size": 64, "n_layer": 2, "n_head": 3, "n_embd": 33, "data_kind": "preferences"}
    run = resolve_weights(folder(tmp_path / "run", flags | {"labels": ["reward"]}, run=True))
    assert (run.is_reward, run.T, run.config.n_labels) == (True, 7, 1)
    hf = folder(tmp_path / "hf", GPT2 | {"architectures": ["GPT2ForSequenceClassification"], "num_labels": 1})
    assert resolve_weights(hf).is_reward and resolve_weights(hf).labels == run.labels
    labels = WeightsRef("labels", run.config, False, None, labels=("bad", "good"))
    assert not labels.is_reward and not WeightsRef("text", run.config, False, None).is_reward
    for source, require, message in (
        (run, require_text_model, "run: a reward model, which writes no text; .* evaluate judges answers by it"),
        (run, require_label_model, "run: a reward model, which predicts no labels; .* evaluate --data scores texts"),
        (labels, require_reward_model, "labels: not a reward model; .* train --objective reward makes one"),
    ):
        with pytest.raises(CheckpointError, match=message):
            require(source)
    require_reward_model(dataclasses.replace(run, is_run=False))


def test_what_is_not_there_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"gpt5: no such folder; weights have the name of a run folder.* gpt2-xl"):
        resolve_weights("gpt5")
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(CheckpointError, match=r"model\.safetensors: is a file, not a folder"):
        resolve_weights(tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"no config\.json there: no run, nor Hugging Face's layout"):
        resolve_weights(tmp_path)
    (tmp_path / "checkpoints").mkdir()
    with pytest.raises(CheckpointError, match=r"no config\.json there: a run that is just starting"):
        resolve_weights(tmp_path)
    with pytest.raises(CheckpointError, match="an empty name: no such folder"):
        resolve_weights("")
