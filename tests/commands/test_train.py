"""`jaxgpt train`: which config the words of a command line make. What it trains is in tests/integration."""

import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from jaxgpt import console
from jaxgpt.commands import train
from jaxgpt.models.configs import SIZES
from jaxgpt.training.config import TrainConfig, fixed_flags
from jaxgpt.training.resume import resume_command


@pytest.fixture
def config_of(monkeypatch):
    """The config that a run would have; for words that are refused, the exit code."""
    asked = []
    monkeypatch.setattr(train, "run", lambda config, weights: asked.append(config) or 0)

    def config_of(*words):
        code = console.run(train.main, [str(word) for word in words])
        return code or asked.pop()

    return config_of


def test_without_flags_it_is_the_chapters_run(config_of):
    assert config_of() == TrainConfig()


def test_presets_set_what_flags_may_change(config_of):
    config = config_of("--size", "gpt2-medium", "--recipe", "gpt3", "--n-layer", 3)
    assert (config.model.n_layer, config.model.n_embd) == (3, SIZES["gpt2-medium"]["n_embd"])
    assert (config.optimizer.lr, config.optimizer.schedule) == (3e-4, "cosine")


def test_a_locale_without_the_letters_of_out_is_refused_before_a_step(tmp_path):
    out = os.fsencode(tmp_path / "süß")
    command = [sys.executable, "-m", "jaxgpt", "train", "--size", "tiny", "--steps", "1", "--out", out]
    environment = os.environ | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONPATH": str(Path(__file__).parents[2])}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert "checkpoints and weights need a path in UTF-8; set LC_ALL=C.UTF-8 or PYTHONUTF8=1" in done.stderr
    assert not os.path.exists(out)


def test_adapters_need_weights(config_of, capsys):
    assert config_of("--lora", 8) == 2
    assert capsys.readouterr().err == (
        "error: --lora 8: adapters need weights that they adapt; name them with --init-from\n"
    )


@pytest.fixture
def weights(tmp_path):
    """Weights of a small context, which are not read."""
    (tmp_path / "hf").mkdir()
    shape = {"vocab_size": 50257, "n_positions": 64, "n_layer": 2, "n_head": 2, "n_embd": 32}
    (tmp_path / "hf" / "config.json").write_text(json.dumps({"model_type": "gpt2"} | shape))
    return tmp_path / "hf"


def test_classify_is_how_gpt_was_tuned(config_of, weights, write):
    data = write("two.csv", "text,label\na,yes\nb,no\n")
    words = ["--recipe", "classify", "--init-from", weights, "--data", data]
    more = ["--T", 9, "--lora", 4, "--epochs", 0.5, "--val", 0.1, "--text-field", "text", "--label-field", "Label"]
    plain, other = config_of(*words), config_of(*words, *more)
    expected = {"B": 32, "T": 64, "epochs": 3, "lr": 6.25e-5, "dropout": 0.1}  # T: the context
    expected |= {"warmup_ratio": 0.002, "schedule": "cosine", "weight_decay": 0.01, "decay": "matrices"}
    expected |= {"grad_clip": 1.0, "n_layer": 2, "n_embd": 32, "block_size": 64}
    assert expected.items() <= plain.flat().items()
    expected = {"T": 9, "lora": 4, "epochs": 0.5, "val": "0.1", "text_field": "text", "label_field": "Label"}
    assert expected.items() <= other.flat().items()
    for config in (plain, other):  # the command that "resume" prints
        assert config_of(*shlex.split(resume_command(config).removeprefix("python -m jaxgpt train "))) == config


def test_a_run_on_labels_from_before_the_recipe_is_the_same_run(config_of, weights, write):
    """What `classify train` had in config.json: chapter, and these flags. The checkpoint's identity must be equal."""
    data = write("two.csv", "text,label\na,yes\nb,no\n")
    flags = {"schedule": "cosine", "warmup_ratio": 0.002, "weight_decay": 0.01, "decay": "matrices", "dropout": 0.1}
    flags |= {"lr": 6.25e-5, "grad_clip": 1.0, "epochs": 3, "B": 32, "T": 64, "data": data, "init_from": str(weights)}
    flags |= {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
    now = config_of("--recipe", "classify", "--init-from", weights, "--data", data)
    assert fixed_flags(now) == fixed_flags(TrainConfig.of(**flags))


def test_finetune_is_a_slower_run_of_three_epochs(config_of, weights):
    config = config_of("--recipe", "finetune", "--init-from", weights)
    defaults = TrainConfig().flat()
    changed = {name: value for name, value in config.flat().items() if value != defaults[name]}
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 64}
    recipe = {"recipe": "finetune", "epochs": 3, "lr": 3e-5, "dropout": 0.1}
    assert changed == shape | recipe | {"init_from": str(weights)}


def test_a_length_in_steps_takes_the_place_of_a_recipes_epochs(config_of, weights):
    words = ["--recipe", "finetune", "--init-from", weights]
    for steps in (["--steps", 50], ["--steps=50"]):
        config = config_of(*words, *steps)
        assert (config.run.epochs, config.run.steps) == (None, 50)
        again = shlex.split(resume_command(config, steps=70).removeprefix("python -m jaxgpt train "))
        assert config_of(*again) == config.replace(steps=70)
        assert "None" not in again

    old = config_of(*words, "--steps", 50, "--epochs", "None")  # as commands of older versions were printed
    assert (old.run.epochs, old.run.steps) == (None, 50)


@pytest.mark.parametrize("more", [[], ["--recipe", "gpt3"]])
def test_a_length_in_steps_and_in_epochs_is_refused(config_of, more, capsys):
    assert config_of(*more, "--epochs=2", "--steps=50") == config_of(*more, "--steps", 50, "--epochs", 2) == 2
    one = "error: --steps and --epochs both say how long the run is; leave one out\n"
    assert capsys.readouterr().err == 2 * one


def test_the_wrong_flag_is_named_before_weights_are_looked_for(config_of, capsys):
    assert config_of("--init-from", "nowhere", "--batch-size", 3) == 2
    assert capsys.readouterr().err.startswith("error: --batch-size: no such flag; did you mean --B?")


def test_another_architecture_than_the_weights_is_named(config_of, weights, capsys):
    assert config_of("--init-from", weights, "--arch", "gated_cnn") == 2
    assert capsys.readouterr().err == f"error: --arch gated_cnn: --init-from {weights} has gpt2; leave --arch out\n"


@pytest.mark.parametrize("recipe", ["finetune", "classify"])
def test_recipes_for_trained_weights_need_them(config_of, recipe, capsys):
    assert config_of("--recipe", recipe) == 2
    assert f"--recipe {recipe}: it needs weights that were trained; name them with --init" in capsys.readouterr().err


def test_what_has_no_labels_is_not_classified(config_of, weights, write, capsys):
    words = ["--recipe", "classify", "--init-from", weights]
    assert config_of(*words) == config_of(*words, "--data", write("a.txt", "a text")) == 3
    assert config_of(*words, "--data", write("a.jsonl", [{"prompt": "a", "completion": "b"}])) == 3
    first, second, third = capsys.readouterr().err.splitlines()
    assert "shakespeare: not a file of examples" in first and "a.txt: not a file of examples" in second
    assert "a.jsonl, line 1: its fields are 'prompt', 'completion', and an example has text and label, or te" in third
