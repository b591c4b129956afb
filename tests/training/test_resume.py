import dataclasses
import shlex
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt import console
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.configs import SIZES, GPT2Config
from jaxgpt.training.config import Preset, TrainConfig
from jaxgpt.training.resume import command, identity, require_same, require_shape


def test_weights_to_begin_with_set_the_shape_and_what_goes_with_it():
    medium, odd = GPT2Config(**SIZES["gpt2-medium"]), GPT2Config(block_size=16, n_layer=1, n_head=1, n_embd=8)
    config = TrainConfig.from_preset(Preset(recipe="gpt3", init_from="x"), medium)
    assert (config.size, config.n_layer, config.n_embd, config.lr) == ("gpt2-medium", 24, 1024, 3e-4)
    assert command(config) == "python train.py --recipe gpt3 --init-from x --B 4 --T 32"
    require_shape(config, medium)
    config = TrainConfig.from_preset(Preset(init_from="x"), odd)
    assert (config.n_layer, config.block_size, config.T) == (1, 16, 16)  # the default of T must fit
    require_shape(config, odd)


def test_heads_are_added_to_what_predicts_the_next_token():
    """Of weights for four tokens, 12 layers, 9 predict the next one; they stay, whatever else is predicted."""
    weights = GPT2Config(predict_tokens=4, untied_head=True)
    for n in (1, 2, 4, 6):
        config = TrainConfig.from_preset(Preset(init_from="x", predict_tokens=n), weights)
        assert (config.n_layer, config.model().depth, config.untied_head) == (8 + n, 9, True)
        require_shape(config, weights)
        more = f" --predict-tokens {n}" if n > 1 else ""
        assert command(config) == f"python train.py --init-from x{more} --B 4 --T 32"
    assert TrainConfig.from_preset(Preset(init_from="x", predict_tokens=4), weights).size == "gpt2"
    with pytest.raises(UsageError, match="--untied-head False: --init-from x has True; leave --untied-head out"):
        require_shape(dataclasses.replace(config, untied_head=False), weights)
    with pytest.raises(UsageError, match="--n-layer 12: --init-from x makes it 14; leave --n-layer out"):
        require_shape(dataclasses.replace(config, n_layer=12), weights)
    with pytest.raises(UsageError, match="--predict-tokens 6: --init-from has weights for 4, and adapters"):
        require_shape(dataclasses.replace(config, lora=2), weights)


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
    again = console.parse(TrainConfig, words, TrainConfig.from_preset(console.parse_some(Preset, words)))
    assert again == dataclasses.replace(config, steps=77, fresh=False)
