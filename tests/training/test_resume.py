import dataclasses
import json
import shlex
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.data import examples
from jaxgpt.data.config import DataConfig
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.text import Text, Windows
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.models.configs import SIZES, GPT2Config
from jaxgpt.training.config import RunConfig, TrainConfig
from jaxgpt.training.preset import RECIPES, Preset
from jaxgpt.training.resume import (
    load_run_config,
    require_compatible,
    require_encoder,
    require_weights,
    resume_command,
    run_signature,
)


def test_weights_to_begin_with_set_the_shape_and_what_goes_with_it():
    medium, odd = GPT2Config(**SIZES["gpt2-medium"]), GPT2Config(block_size=16, n_layer=1, n_head=1, n_embd=8)
    config = TrainConfig.from_preset(Preset(recipe="gpt3", init_from="x"), medium)
    assert (config.preset.size, config.model.n_layer, config.model.n_embd) == ("gpt2-medium", 24, 1024)
    assert config.optimizer.lr == 3e-4
    assert resume_command(config) == "python -m jaxgpt train --recipe gpt3 --init-from x --B 4 --T 32"
    require_weights(config, medium)
    config = TrainConfig.from_preset(Preset(init_from="x"), odd)
    assert (config.model.n_layer, config.model.block_size, config.data.T) == (1, 16, 16)  # the default of T must fit
    require_weights(config, odd)


def test_heads_are_added_to_what_predicts_the_next_token():
    """Of weights for four tokens, 12 layers, 9 predict the next one; they stay, whatever else is predicted."""
    weights = GPT2Config(predict_tokens=4, untied_head=True)
    for n in (1, 2, 4, 6):
        config = TrainConfig.from_preset(Preset(init_from="x", predict_tokens=n), weights)
        assert (config.model.n_layer, config.model_config().depth, config.model.untied_head) == (8 + n, 9, True)
        require_weights(config, weights)
        more = f" --predict-tokens {n}" if n > 1 else ""
        assert resume_command(config) == f"python -m jaxgpt train --init-from x{more} --B 4 --T 32"
    assert TrainConfig.from_preset(Preset(init_from="x", predict_tokens=4), weights).preset.size == "gpt2"
    with pytest.raises(UsageError, match="--untied-head False: --init-from x has True; leave --untied-head out"):
        require_weights(config.replace(untied_head=False), weights)
    with pytest.raises(UsageError, match="--n-layer 12: --init-from x makes it 14; leave --n-layer out"):
        require_weights(config.replace(n_layer=12), weights)
    with pytest.raises(UsageError, match="--predict-tokens 6: --init-from has weights for 4, and adapters"):
        require_weights(config.replace(lora=2), weights)


def test_a_run_whose_rows_were_packed_in_the_order_of_the_file_is_refused(write):
    """Its checkpoints have no `packing`. Its rows were others, also where --allow-other-data takes another text."""
    (data,) = examples.load(write("a.jsonl", [{"prompt": "a", "completion": "b"}]), B=2, T=8)
    current = signature(data=data)
    saved = {name: value for name, value in current.items() if name != "packing"} | {"corpus": "abc"}
    for allow_other_data in (False, True):
        with pytest.raises(CheckpointError, match=r"x/checkpoints/3 was .*; begin a new run .*, --init-from runs/x/ch"):
            require_compatible(saved, current, Path("runs/x/checkpoints/3"), allow_other_data)
    (labels,) = examples.load(write("b.jsonl", [{"text": "a", "label": 1}, {"text": "b", "label": 2}]), B=2, T=8)
    assert signature(data=labels).keys() == saved.keys()  # a text is a row, as before


TEXT = Text("a text", np.arange(99, dtype=np.uint16), "abc", B=4, T=8)


def signature(dtype="float32", data=TEXT, **flags):
    return run_signature(TrainConfig.of(**flags), data, dtype)


def test_a_signature_is_what_decides_the_numbers():
    usual = signature()
    for change in (
        {"steps": 99},
        {"B": 8},
        {"T": 64},
        {"out": Path("elsewhere")},
        {"save_every": 7},
        {"device": "cpu"},
        {"remat": "full"},
    ):
        require_compatible(usual, signature(**change), Path("runs/x"))
    changed = signature("bfloat16", dataclasses.replace(TEXT, fingerprint="def"), lr=1e-3, seed=5)
    with pytest.raises(CheckpointError) as error:
        require_compatible(usual, changed, Path("runs/x"))
    for words in ("corpus abc there and def", "dtype float32 there", "lr 0.0003 there and 0.001", "seed 0 there and 5"):
        assert words in str(error.value)
    assert "n_layer" not in str(error.value) and "recipe" not in str(error.value)
    with pytest.raises(CheckpointError, match=r"n_layer 12 there and 2 here; use the flags"):
        require_compatible(usual, usual | {"n_layer": 2}, Path("runs/x"))
    shuffled = signature(data=Windows((TEXT,), seed=0, B=4, T=8), order="shuffled")
    with pytest.raises(CheckpointError, match=r"order sequential there and T=8 shuffled here"):
        require_compatible(usual, shuffled, Path("runs/x"))


@pytest.mark.parametrize(
    "there, here, message",
    [
        ({"recipe": "gpt3"}, {}, "recipe gpt3 there and chapter here"),
        ({}, {"recipe": "finetune", "seed": 5}, "recipe chapter there and finetune here, seed 0 there and 5 here"),
        (
            {"recipe": "gpt3", "size": "tiny", "beta2": 0.9},
            {"size": "gpt2-medium"},
            "beta2 0.9 there and 0.999 here, recipe gpt3 there and chapter here, size tiny there and gpt2-medium here",
        ),
        ({"arch": "gated_cnn", "size": "tiny"}, {"arch": "gated_cnn"}, "size tiny there and gpt2 here"),
    ],
)
def test_presets_stand_for_the_flags_that_they_set(there, here, message):
    def of(flags):
        preset = Preset(**{name: flags[name] for name in ("size", "recipe", "arch") if name in flags})
        return run_signature(TrainConfig.from_preset(preset).replace(**flags), TEXT, "float32")

    with pytest.raises(CheckpointError, match=f": {message}; use the flags"):
        require_compatible(of(there), of(here), Path("runs/x"))


@pytest.mark.parametrize("there", [True, False])
def test_a_text_and_examples_are_told_apart(there):
    """Their signatures have other names, some of which a recipe sets."""
    text, rows = signature(), signature(recipe="classify") | {"T": 128, "labels": ["0", "1"]}
    with pytest.raises(CheckpointError, match=r"T 128 there and None here" if there else r"T None there and 128 here"):
        require_compatible(*((rows, text) if there else (text, rows)), Path("runs/x"))


def test_the_weights_that_answers_are_compared_with_may_have_another_name_but_no_other_numbers():
    """As those under adapters, which test_run.py shows."""
    saved = signature(init_from="run") | {"reference": "abc"}
    require_compatible(saved, signature(init_from="run/checkpoints/3") | {"reference": "abc"}, Path("runs/x"))
    with pytest.raises(CheckpointError, match="x compares answers with other weights than --init-from run has now"):
        require_compatible(saved, signature(init_from="run") | {"reference": "def"}, Path("runs/x"))


def test_texts_are_named_by_the_runs_config(tmp_path):
    (tmp_path / "config.json").write_text('{"corpus": "tiny Shakespeare", "fingerprint": "abc"}')
    changed = signature(data=dataclasses.replace(TEXT, fingerprint="def"))
    for text, message in (
        ("a.txt", "corpus tiny Shakespeare there and a.txt here;"),
        ("tiny Shakespeare", "corpus abc there and def here;"),
    ):
        with pytest.raises(CheckpointError, match=message):
            require_compatible(signature(), changed, tmp_path / "checkpoints" / "3", text=text)


def test_a_checkpoint_older_than_a_flag_has_its_default():
    saved = signature()
    del saved["pad_vocab_to_multiple_of"], saved["objective"]
    require_compatible(saved, signature(), Path("runs/x"))
    with pytest.raises(CheckpointError, match="pad_vocab_to_multiple_of 1 there and 128 here"):
        require_compatible(saved, signature(pad_vocab_to_multiple_of=128), Path("runs/x"))


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "size": st.sampled_from(list(SIZES)),
            "recipe": st.sampled_from(list(RECIPES)),
            "B": st.integers(1, 64),
            "lr": st.floats(1e-6, 1, allow_nan=False),
            "steps": st.integers(1, 10**6),
            "out": st.sampled_from([Path("a b"), Path("it's")]),
            "fresh": st.booleans(),
            "data": st.sampled_from(["auto", "my text.txt", "$HOME", "-x.txt"]),
        },
    )
)
def test_the_printed_command_gives_the_config_back(flags):
    preset = Preset(**{name: flags.pop(name) for name in ("size", "recipe") if name in flags})
    config = TrainConfig.from_preset(preset).replace(**flags)
    words = shlex.split(resume_command(config, steps=77).removeprefix("python -m jaxgpt train "))
    again = parse(TrainConfig, words, TrainConfig.from_preset(parse_some(Preset, words)))
    steps = 77 if config.run.epochs is None else RunConfig.steps  # which follow from epochs
    assert again == config.replace(steps=steps, fresh=False)


START = {"step": 0, "B": 3, "T": 32, "accumulate": 1, "steps": 9, "dtype": "float32", "fingerprint": "f00d"}


FLAGS = TrainConfig.of(B=3, lr=0.5, decay="matrices", fresh=True, data="a.txt")


def test_adapters_beside_a_run_that_has_trained_on_name_its_checkpoint(tmp_path):
    saved = {"arch": "gpt2", "init_from": "runs/base", "base": "00000001"}
    require_compatible(saved, saved, tmp_path / "run/checkpoints/3")
    with pytest.raises(
        CheckpointError, match=r"run/checkpoints/3 has .* that this run began with: --init-from runs/base/c"
    ):
        require_compatible(saved, saved | {"base": "00000002"}, tmp_path / "run/checkpoints/3")


def run_folder(tmp_path, **changes):
    flags = FLAGS.flat() | {"out": "elsewhere"}
    (tmp_path / "checkpoints").mkdir(exist_ok=True)
    config = {name: value for name, value in (flags | {"starts": [START]} | changes).items() if value != "gone"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    return tmp_path


def test_the_flags_of_a_run_are_those_of_its_last_start(tmp_path):
    # As a run from before there was a seed, and one from when --probe-every had a value without --probe.
    config, starts = load_run_config(run_folder(tmp_path, seed="gone", probe_every=100))
    assert config == FLAGS.replace(out=tmp_path)
    assert starts == [START]


def test_relative_names_are_those_of_the_folder_in_which_the_run_was_started(tmp_path, monkeypatch):
    """What is not there keeps its name, and so does the default text; an older run has no such folder."""
    start, elsewhere = tmp_path / "start", tmp_path / "elsewhere"
    for folder in (start, elsewhere):
        folder.mkdir()
        for name in ("a.txt", "b.txt", "r.py", "shakespeare"):
            (folder / name).touch()
    inputs = {"data": "a.txt", "val": "missing.txt", "init_from": "b.txt", "reward": "r.py:f", "cwd": str(start)}
    monkeypatch.chdir(elsewhere)
    flags = load_run_config(run_folder(tmp_path, **inputs))[0].flat()
    located = f"{start}/a.txt", "missing.txt", f"{start}/b.txt", f"{start}/r.py:f"
    assert tuple(flags[name] for name in ("data", "val", "init_from", "reward")) == located
    gone = run_folder(tmp_path, data="gone.txt", cwd=str(start))
    assert load_run_config(gone)[0].data.data == f"{start}/gone.txt"
    names = {"data": "a.txt[:-0.1]", "val": "shakespeare[-0.1:]", "val_also": "old=b.txt,web=missing.txt"}
    parts = load_run_config(run_folder(tmp_path, **names, cwd=str(start)))[0].data
    assert (parts.data, parts.val) == (f"{start}/a.txt[:-0.1]", "shakespeare[-0.1:]")
    assert parts.val_also == f"old={start}/b.txt,web=missing.txt"
    mixed = run_folder(tmp_path, data="shakespeare", mix="a.txt=0.7, b.txt=0.3,c.txt=1", cwd=str(start))
    config, _ = load_run_config(mixed)
    assert (config.data.data, config.data.mix) == ("shakespeare", f"{start}/a.txt=7,{start}/b.txt=3,c.txt=10")
    assert load_run_config(run_folder(tmp_path, data="a.txt"))[0].data.data == "a.txt"
    monkeypatch.chdir(start)
    assert load_run_config(run_folder(tmp_path, **inputs))[0].data.data == "a.txt"


def test_a_run_whose_default_text_was_named_auto_has_the_default_text(tmp_path):
    config, _ = load_run_config(run_folder(tmp_path, data="auto", mix="a.txt=1"))
    assert config.data.data == DataConfig.data == "shakespeare"  # a mixture goes with no other --data


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"starts": "gone"}, "config.json: it has no 'starts', which any run's has; give a run folder, or resume"),
        ({"starts": [START | {"step": 1.5}]}, "config.json: its 'starts' are not a run's"),
        ({"starts": [START | {"dtype": "text"}]}, "config.json: its 'starts' are not a run's"),
        ({"B": "many"}, "config.json: B is "),
        ({"B": 0}, "config.json: --B 0 is out of range"),
        ({"B": False}, "config.json: B is "),
        ({"T": None}, "config.json: T is None, and must be int"),
        ({"device": "tpu"}, "config.json: device is 'tpu', and must be 'auto', 'gpu', 'cpu'"),
        ({"data": "--help", "lr": True}, "config.json: lr is True, and must be float"),
    ],
)
def test_flags_that_no_run_can_have_had_are_refused(tmp_path, changes, message):
    with pytest.raises(CheckpointError, match=message):
        load_run_config(run_folder(tmp_path, **changes))


def test_what_an_encoder_cannot_be_trained_from_is_refused():
    config = TrainConfig.of(arch="bert", tokenizer="bytes")
    text = SimpleNamespace(kind="masked", tokenizer=for_encoder(open_tokenizer("bytes")))
    require_encoder(config, text, None)
    with pytest.raises(UsageError, match="w has a head for labels, and none for masked tokens; give it texts with"):
        require_encoder(config, text, SimpleNamespace(name="w", labels=("a", "b")))
    with pytest.raises(UsageError, match=r"^--position-offset 2: transformers takes 1 for padding then, and bytes has"):
        require_encoder(config.replace(position_offset=2), text, None)
    require_encoder(config.replace(position_offset=256), text, None)  # whose padding, 255, is no byte of UTF-8
