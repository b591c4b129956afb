"""Adapters of peft: files as it writes them, against dense matrices in float64."""

import json
import math
import re

import jax
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from jaxgpt.errors import CheckpointError
from jaxgpt.runs.huggingface import load, load_hf, save_hf
from jaxgpt.runs.weights import resolve_weights
from tests.support.models import new_model

LAYER = "transformer.h.1.attn.c_attn"


def matrices(layer, n_in, n_out, rank=2, seed=0):
    rng = np.random.default_rng(seed)
    a, b = rng.normal(size=(rank, n_in)), rng.normal(size=(n_out, rank))
    return {f"base_model.model.{layer}.lora_{kind}.weight": m.astype(np.float32) for kind, m in (("A", a), ("B", b))}


def write(folder, tensors, **changes):
    folder.mkdir(exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 2, "lora_alpha": 6, "fan_in_fan_out": True, "bias": "none", "use_dora": False}
    (folder / "adapter_config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.fixture
def base(tiny, tmp_path):
    save_hf(new_model(tiny, jax.random.key(0)), tmp_path / "base")
    return tmp_path / "base"


def adapted(folder, tmp_path, name="out"):
    """The tensors of a folder's model, as save_hf writes them."""
    source = resolve_weights(folder)
    save_hf(load(source), tmp_path / name, source.labels)
    return load_file(tmp_path / name / "model.safetensors")


def test_kernels_get_alpha_over_rank_times_the_product(base, tmp_path):
    """Every layer that peft adapts in GPT-2; ranks and alphas of their own; with and without the prefix."""
    shapes = {LAYER: (20, 60), "h.0.attn.c_proj": (20, 20), "h.2.mlp.c_fc": (20, 80), "h.2.mlp.c_proj": (80, 20)}
    tensors = {}
    for seed, (layer, shape) in enumerate(shapes.items()):
        tensors |= matrices(layer, *shape, rank=1 + seed, seed=seed)
    patterns = {"h.2.mlp.c_fc": 9, r"mlp\.c_proj": 5}
    scales = {LAYER: 6 / 1, "h.0.attn.c_proj": 6 / 2, "h.2.mlp.c_fc": 9 / 3, "h.2.mlp.c_proj": 5 / 4}
    expected = load_file(base / "model.safetensors")
    for layer in shapes:
        a, b = (tensors[f"base_model.model.{layer}.lora_{kind}.weight"].astype(np.float64) for kind in "AB")
        name = f"transformer.{layer.removeprefix('transformer.')}.weight"
        expected[name] = expected[name] + scales[layer] * (b @ a).T
    for flag in (True, False):  # peft itself takes False for a mistake in GPT-2
        folder = write(
            tmp_path / "lora", tensors, base_model_name_or_path=str(base), alpha_pattern=patterns, fan_in_fan_out=flag
        )
        found = adapted(folder, tmp_path, f"out{flag}")
        assert found.keys() == expected.keys()
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=1e-6, atol=1e-6, err_msg=name)
    rooted = adapted(
        write(folder, matrices(LAYER, 20, 60), use_rslora=True, base_model_name_or_path=str(base)), tmp_path
    )
    a, b = matrices(LAYER, 20, 60).values()
    before = load_file(base / "model.safetensors")[f"{LAYER}.weight"]
    np.testing.assert_allclose(rooted[f"{LAYER}.weight"], before + 6 / math.sqrt(2) * (b @ a).T, rtol=1e-5, atol=1e-6)


def test_the_base_may_be_beside_the_adapter(base, tmp_path):
    tensors = matrices(LAYER, 20, 60)
    named = adapted(write(tmp_path / "lora", tensors, base_model_name_or_path=str(base)), tmp_path, "named")
    beside = adapted(write(base, tensors, base_model_name_or_path="lost"), tmp_path, "beside")
    assert all(np.array_equal(beside[name], named[name]) for name in named)


def test_a_head_for_labels_comes_with_the_adapter(base, tmp_path):
    head = np.random.default_rng(5).normal(size=(3, 20)).astype(np.float32)
    tensors = matrices(LAYER, 20, 60) | {"base_model.model.score.weight": head}
    folder = write(tmp_path / "lora", tensors, base_model_name_or_path=str(base), task_type="SEQ_CLS")
    source = resolve_weights(folder)
    assert (source.labels, source.T, source.config.n_labels) == (("LABEL_0", "LABEL_1", "LABEL_2"), 16, 3)
    assert np.array_equal(adapted(folder, tmp_path)["score.weight"], head)


@pytest.mark.parametrize(
    "changes, more, message",
    [
        ({"peft_type": "IA3"}, {}, "adapter_config.json: peft_type is 'IA3'; only 'LORA' is read: merge it with peft"),
        ({"use_dora": True}, {}, "adapter_config.json: use_dora is True; only False is read"),
        ({"bias": "all"}, {}, "adapter_config.json: bias is 'all'; only 'none' is read"),
        ({"init_lora_weights": "pissa"}, {}, "adapter_config.json: init_lora_weights is 'pissa'; only True is read"),
        ({"lora_alpha": None}, {}, "adapter_config.json: its base_model_name_or_path, lora_alpha or alpha_pattern"),
        ({"alpha_pattern": {"(": 3}}, {}, "its base_model_name_or_path, lora_alpha or alpha_pattern"),
        ({"alpha_pattern": {r"([\w.]+)+x": 3}}, {}, "its base_model_name_or_path, lora_alpha or alpha_pattern"),
        ({"lora_alpha": 10**400}, {}, "its base_model_name_or_path, lora_alpha or alpha_pattern"),
        ({"lora_alpha": 1e308}, {}, "lora_A.weight times lora_alpha is not finite; use another adapter"),
        ({}, {"base_model.model.score.weight": np.ones((10**9, 0))}, "score.weight has 1,000,000,000 labels; use an"),
        ({"base_model_name_or_path": "{other}"}, {}, "other is an adapter; merge it"),
        ({"base_model_name_or_path": None}, {}, "its base_model_name_or_path, lora_alpha or alpha_pattern"),
        ({"base_model_name_or_path": "lost"}, {}, "lora: an adapter for weights that can't be loaded (lost: no such"),
        ({"base_model_name_or_path": "{lora}"}, {}, "that can't be loaded (it names itself); put their config.json"),
        ({}, matrices("transformer.h.3.attn.c_attn", 20, 60), "h.3.attn.c_attn.lora_A.weight is no LoRA matrix of"),
        (
            {},
            {"base_model.model.transformer.wte.weight": np.ones((61, 20))},
            "transformer.wte.weight is no LoRA matrix",
        ),
        (
            {},
            {f"base_model.model.{LAYER}.lora_B.weight": np.ones((20, 2))},
            "has shape (20, 2), and by its base it has",
        ),
        ({}, {f"base_model.model.{LAYER}.lora_A.weight": np.ones(20)}, "has shape (20,), and by its base it has"),
        ({}, {"base_model.model.h.0.mlp.c_fc.lora_A.weight": np.ones((2, 20))}, "is there without its other half"),
    ],
    ids=str,
)
def test_what_is_not_read_is_one_line(base, tmp_path, changes, more, message):
    folder = tmp_path / "lora"
    changes = {"base_model_name_or_path": str(base)} | changes
    changes |= {name: str(folder) for name, value in changes.items() if value == "{lora}"}
    if changes["base_model_name_or_path"] == "{other}":  # which names this one
        write(tmp_path / "other", matrices(LAYER, 20, 60), base_model_name_or_path=str(folder))
        changes["base_model_name_or_path"] = str(tmp_path / "other")
    write(folder, matrices(LAYER, 20, 60) | more, **changes)
    with pytest.raises(CheckpointError, match=re.escape(message)) as error:
        load(resolve_weights(folder))
    assert "\n" not in str(error.value)


def test_an_adapter_without_its_file(base, tmp_path):
    folder = write(tmp_path / "lora", matrices(LAYER, 20, 60), base_model_name_or_path=str(base))
    (folder / "adapter_model.safetensors").rename(folder / "adapter_model.bin")
    with pytest.raises(
        CheckpointError, match=r"no adapter_model\.safetensors there, and adapter_model\.bin is a pickle"
    ):
        load_hf(folder)
    (folder / "adapter_model.bin").unlink()
    with pytest.raises(
        CheckpointError, match=r"no adapter_model\.safetensors there; save_pretrained of peft writes it"
    ):
        load_hf(folder)
