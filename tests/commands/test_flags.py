import dataclasses
import io
import re

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.errors import UsageError
from jaxgpt.training.config import TrainConfig


@pytest.mark.parametrize(
    "words, message",
    [
        (["--nope", "3"], "Unrecognized options: --nope, 3; --help lists the flags"),
        (["extra"], "Unrecognized options: extra"),
        (["--B", "x"], "Error parsing --B: invalid literal for int() with base 10: 'x'"),
        (["--lr"], "Missing value for argument '--lr'"),
        (["--device", "tpu"], "invalid choice 'tpu' for argument '--device'. Expected one of ('auto', 'gpu', 'cpu')"),
        (["--b", "3"], "Unrecognized options: --b"),
    ],
)
@pytest.mark.parametrize("frame", ["utf-8", "ascii"])
def test_a_wrong_command_line_is_one_sentence(words, message, frame, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), frame))
    with pytest.raises(UsageError) as error:
        parse(TrainConfig, words)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


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
