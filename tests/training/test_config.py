import math
import re
from typing import get_args, get_type_hints

import pytest

from jaxgpt import console
from jaxgpt.errors import UsageError
from jaxgpt.models.configs import SIZES, GPT2Config
from jaxgpt.training.config import Preset, TrainConfig


def from_words(words):
    return console.parse(TrainConfig, words, TrainConfig.from_preset(console.parse_some(Preset, words)))


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
