import dataclasses
import io
import re
import shlex

import pytest

from jaxgpt import commands, console
from jaxgpt.commands.evaluate import EvaluateConfig
from jaxgpt.commands.flags import ALIASES, parse, read_words
from jaxgpt.commands.predict import PredictConfig
from jaxgpt.commands.sample import SampleConfig
from jaxgpt.errors import UsageError
from jaxgpt.prepare.config import PrepareConfig
from jaxgpt.training.config import TrainConfig


@pytest.mark.parametrize(
    "words, message",
    [
        (["--nope", "3"], "--nope: no such flag; --help lists the flags"),
        (["extra"], "Unrecognized options: extra"),
        (["--B", "x"], "--B x must be an integer, such as 1000"),
        (["--B=1,024"], "--B 1,024 must be an integer, such as 1024"),
        (["--epochs", "3x"], "--epochs 3x must be a number, such as 0.1"),
        (
            ["--save_every", "1", "--save-every", "2e3"],
            "--save-every 2e3 must be an integer, such as 2000",
        ),
        (["--lr"], "Missing value for argument '--lr'"),
        (["--device", "tpu"], "invalid choice 'tpu' for argument '--device'. Expected one of ('auto', 'gpu', 'cpu')"),
        (["--b", "3"], "--b: no such flag; did you mean --B? --help lists the flags"),
        (["--lr", "--steps", "5"], "--lr has no value before --steps; if that is it, write --lr=--steps"),
    ],
)
@pytest.mark.parametrize("frame", ["utf-8", "ascii"])
def test_a_wrong_command_line_is_one_sentence(words, message, frame, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), frame))
    with pytest.raises(UsageError) as error:
        parse(TrainConfig, words)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    "words, name",
    [
        ("train --out ''", "--out"),
        ("train --out=", "--out"),
        ("train --data '' --B 3", "--data"),
        ("train --B 3 --mix=", "--mix"),
        ("fit --val ''", "--val"),
        ("prepare '' --out new", "an argument"),
        ("prepare text.txt --out ''", "--out"),
        ("prepare text.txt --out new --files '*.py' ''", "an argument"),
        ("inspect ''", "an argument"),
        ("inspect data --html ''", "--html"),
        ("export run ''", "an argument"),
        ("evaluate run --data text.txt --json=", "--json"),
        ("predict run --data text.jsonl --out ''", "--out"),
        ("sample '' --prompt Hello", "an argument"),
        ("verify ''", "an argument"),
        ("replay '' --step 3", "an argument"),
    ],
)
def test_an_empty_word_is_refused_before_anything_is_read_or_written(words, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # which is what an empty path would be
    assert console.run(commands.main, shlex.split(words)) == 2
    assert capsys.readouterr() == ("", f"error: {name} is empty; give it a value, or leave it out\n")
    assert not list(tmp_path.iterdir())


def test_a_home_that_the_shell_left_as_it_is_is_no_folder():
    with pytest.raises(UsageError, match=r"--out=~/x: the shell left ~ as it is; write --out ~/x, without =$"):
        parse(TrainConfig, ["--out=~/x"])


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("look run --prompt - --json -", "--json"),
        ("doctor --json=-", "--json"),
        ("predict run --data - --out -", "--out"),
        ("report run --evaluation a.json -", "--evaluation"),
        ("prepare - --out -", "--out"),
        ("export run -", "FOLDER"),
        ("train --out -", "--out"),
    ],
)
def test_a_dash_is_no_file_or_folder(words, name, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert console.run(commands.main, shlex.split(words)) == 2
    message = f"{name} -: stdin and stdout can't be used here; name a file or folder"
    assert capsys.readouterr() == ("", f"error: {message}\n")
    assert not list(tmp_path.iterdir())


def test_help_has_every_flag_with_its_meaning_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "100")  # wider, the groups stand side by side
    with pytest.raises(SystemExit) as stop:
        parse(TrainConfig, ["--help"])
    assert stop.value.code in (0, None)
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in (field for group in TrainConfig().groups.values() for field in dataclasses.fields(group)):
        _, about = re.split(rf" --{field.name.replace('_', '-')}(?:,? (?=[A-Z]+ |{{|--no-))", text, maxsplit=1)
        meaning, default = about.split(" (default: ", maxsplit=1)
        assert default.startswith(f"{field.default})"), field.name
        assert len(meaning.split()) >= 3, field.name


@pytest.mark.parametrize(
    "config, ours",
    [
        (
            TrainConfig,
            {
                "-B --batch-size --batch_size=8 --micro_batch_size": "--B",
                "--learning_rate=1e-3 --learning-rate -lr --learningrate": "--lr",
                "--max_iters=5 --max-steps --setps": "--steps",
                "--num_train_epochs --num-epochs": "--epochs",
                "--gradient_accumulation_steps=4": "--accumulate",
                "--eval_interval --eval-steps": "--eval-every",
                "--out_dir=x --output_dir -o": "--out",
                "--warmup_iters": "--warmup-ratio",
                "--grad-clipp --max_grad_norm": "--grad-clip",
                "--model": "--init-from",
            },
        ),
        (
            SampleConfig,
            {
                "--max-tokens --max_length --max-new-token": "--max-new-tokens",
                "--start=hello": "--prompt",
                "--num_samples=3": "--n",
                "--topk": "--top-k",
                "--out_dir": "MODEL, which has no flag",
            },
        ),
    ],
)
def test_a_flag_of_another_program_names_ours(config, ours):
    for words, flag in ((words, flag) for names, flag in ours.items() for words in names.split()):
        with pytest.raises(UsageError) as error:
            parse(config, [words, "3"])
        expected = f"{words.partition('=')[0]}: no such flag; did you mean {flag}? --help lists the flags"
        assert str(error.value) == expected


def test_a_name_in_the_table_stands_for_a_flag_and_hides_none():
    train = {name.replace("_", "-") for name in TrainConfig().flat()}
    assert not {alias for name in ALIASES if name in train for alias in ALIASES[name].split()} & train
    others = {"batch-size": EvaluateConfig, "workers": PrepareConfig, "run": PredictConfig}
    others |= dict.fromkeys(("max-new-tokens", "model", "n", "prompt"), SampleConfig)
    assert ALIASES.keys() - train == others.keys()
    for name, config in others.items():
        assert name.replace("-", "_") in {field.name for field in dataclasses.fields(config)}


@pytest.mark.parametrize("value", ["--help me", "-- and then", "-5", "- a list", "--n 5\n--seed", "-"])
def test_a_value_may_begin_with_a_dash(value):
    for words in (["--prompt", value], [f"--prompt={value}"]):
        assert parse(SampleConfig, ["runs/x", *words, "--n", "2"]) == SampleConfig("runs/x", value, n=2)


@pytest.mark.parametrize("value", ["--help", "--n", "-x"])
def test_a_value_that_looks_like_a_flag_is_joined_to_its_own(value):
    with pytest.raises(UsageError, match=f"no value before {value}; if that is it, write --prompt={value}$"):
        parse(SampleConfig, ["runs/x", "--prompt", value])
    assert parse(SampleConfig, ["runs/x", f"--prompt={value}"]).prompt == value


def test_words_that_are_right_stay_as_they_are():
    words = ["--save_every", "3", "--fresh", "--no-deterministic", "--mix=a=1,b=2", "--lr", "1e-3", "-h"]
    assert read_words(TrainConfig, words) == words
