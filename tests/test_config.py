import dataclasses
import math
import re
import shlex
from pathlib import Path
from typing import get_args, get_type_hints

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt import cli
from jaxgpt.config import SIZES, GPT2Config, Preset, TrainConfig, command, identity, require_same, require_shape
from jaxgpt.errors import CheckpointError, UsageError


def from_words(words):
    return cli.parse(TrainConfig, words, TrainConfig.from_preset(cli.parse_some(Preset, words)))


def test_the_defaults_are_the_chapter():
    config = from_words([])
    assert (config.B, config.T, config.steps, config.lr) == (4, 32, 50, 3e-4)
    assert (config.schedule, config.beta1, config.beta2, config.eps) == ("constant", 0.9, 0.999, 1e-8)
    assert (config.weight_decay, config.decay, config.grad_clip) == (0.01, "all", 0.0)
    assert config.model() == GPT2Config(50257, 1024, 12, 12, 768)


def test_sizes_and_recipes_set_defaults_that_flags_override():
    config = from_words(["--lr", "1e-3", "--n-layer=5", "--recipe", "gpt3", "--size", "gpt2-xl"])
    assert (config.n_layer, config.n_head, config.n_embd, config.lr) == (5, 25, 1600, 1e-3)
    assert (config.schedule, config.beta2, config.weight_decay, config.decay) == ("cosine", 0.95, 0.1, "matrices")
    assert from_words(["--recipe", "gpt3", "--size", "gpt2-medium"]).lr == 3e-4
    assert tuple(SIZES) == get_args(get_type_hints(Preset)["size"])


def test_weights_to_begin_with_set_the_shape_and_what_goes_with_it():
    medium, odd = GPT2Config(**SIZES["gpt2-medium"]), GPT2Config(block_size=16, n_layer=1, n_head=1, n_embd=8)
    config = TrainConfig.from_preset(Preset(recipe="gpt3", init_from="x"), medium)
    assert (config.size, config.n_layer, config.n_embd, config.lr) == ("gpt2-medium", 24, 1024, 3e-4)
    assert command(config) == "python train.py --recipe gpt3 --init-from x --B 4 --T 32"
    require_shape(config, medium)
    config = TrainConfig.from_preset(Preset(init_from="x"), odd)
    assert (config.n_layer, config.block_size, config.T) == (1, 16, 16)  # the default of T must fit
    require_shape(config, odd)


@pytest.mark.parametrize(
    "flags",
    [{name: value} for name in ("B", "T", "steps", "n_layer", "n_head", "n_embd", "block_size") for value in (0, -1)]
    + [{"pad_vocab_to_multiple_of": value} for value in (0, -1, 10**12)]
    + [{name: value} for name in ("lr", "eps") for value in (0.0, -1.0, math.nan, math.inf)]
    + [{name: value} for name in ("weight_decay", "grad_clip") for value in (-0.1, math.nan, math.inf)]
    + [{name: value} for name in ("warmup_ratio", "min_lr_ratio") for value in (-0.1, 1.1, math.nan)]
    + [{name: value} for name in ("beta1", "beta2") for value in (-0.1, 1.0, math.nan)]
    + [{name: value} for name in ("save_every", "seed") for value in (-1, 2**31)],
    ids=str,
)
def test_a_value_out_of_range_is_named(flags):
    ((name, value),) = flags.items()
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} {value}".replace("+", r"\+")):
        TrainConfig(**flags)


def test_values_must_fit_each_other():
    with pytest.raises(UsageError, match="--T 1025 is above the model's longest context: use --T 1024"):
        TrainConfig(T=1025)
    with pytest.raises(UsageError, match="--n-embd 768 can't be split over --n-head 7"):
        TrainConfig(n_head=7)


def test_a_mesh_is_sizes_by_axis():
    assert TrainConfig().axes is None
    assert TrainConfig(B=8, mesh="fsdp=4,data=2").axes == {"fsdp": 4, "data": 2}
    assert TrainConfig(B=8, mesh="data=8").axes == {"data": 8}


@pytest.mark.parametrize(
    "mesh, says",
    [(text, "not a mesh; use auto") for text in ("", "8", "data", "data=0", "data=-1", "data=2,data=2", "tensor=2")]
    + [("data=8", "--B 4 can't be shared equally by the 8 devices of --mesh data=8: use a multiple of 8")]
    + [("data=2,fsdp=3", "--B 4 can't be shared equally by the 6 devices of --mesh data=2,fsdp=3")],
)
def test_a_mesh_that_cannot_be(mesh, says):
    with pytest.raises(UsageError, match=re.escape(says)):
        TrainConfig(B=4, mesh=mesh)


def test_a_width_that_a_mesh_cannot_share():
    with pytest.raises(UsageError, match="--n-embd 30 can't be shared equally by --mesh data=1,fsdp=4"):
        TrainConfig(B=4, n_embd=30, n_head=1, mesh="data=1,fsdp=4")


def test_identity_is_what_decides_the_numbers():
    config = TrainConfig()
    same = identity(config, "abc", "float32")
    for change in (
        {"steps": 99},
        {"B": 8},
        {"T": 64},
        {"out": Path("elsewhere")},
        {"save_every": 7},
        {"device": "cpu"},
    ):
        require_same(same, identity(dataclasses.replace(config, **change), "abc", "float32"), Path("runs/x"))
    changed = identity(dataclasses.replace(config, lr=1e-3, seed=5), "def", "bfloat16")
    with pytest.raises(CheckpointError) as error:
        require_same(same, changed, Path("runs/x"))
    for words in ("corpus abc there and def", "dtype float32 there", "lr 0.0003 there and 0.001", "seed 0 there and 5"):
        assert words in str(error.value)
    assert "n_layer" not in str(error.value) and "(what --recipe would set)" in str(error.value)
    with pytest.raises(CheckpointError, match=r"n_layer 12 there and 2 here \(what --size would set\); use the flags"):
        require_same(same, same | {"n_layer": 2}, Path("runs/x"))


def test_a_checkpoint_older_than_a_flag_has_its_default():
    saved = identity(TrainConfig(), "abc", "float32")
    del saved["pad_vocab_to_multiple_of"]
    require_same(saved, identity(TrainConfig(), "abc", "float32"), Path("runs/x"))
    with pytest.raises(CheckpointError, match="pad_vocab_to_multiple_of 1 there and 128 here"):
        require_same(saved, identity(TrainConfig(pad_vocab_to_multiple_of=128), "abc", "float32"), Path("runs/x"))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "size": st.sampled_from(list(SIZES)),
            "recipe": st.sampled_from(["chapter", "gpt3"]),
            "B": st.integers(1, 64),
            "lr": st.floats(1e-6, 1, allow_nan=False),
            "steps": st.integers(1, 10**6),
            "out": st.sampled_from([Path("a b"), Path("it's")]),
            "fresh": st.booleans(),
            "data": st.sampled_from(["auto", "my text.txt", "$HOME"]),
        },
    )
)
def test_the_printed_command_gives_the_config_back(flags):
    preset = Preset(**{name: flags.pop(name) for name in ("size", "recipe") if name in flags})
    config = dataclasses.replace(TrainConfig.from_preset(preset), **flags)
    python, script, *words = shlex.split(command(config, steps=77))
    assert (python, script) == ("python", "train.py")
    assert from_words(words) == dataclasses.replace(config, steps=77, fresh=False)
