import dataclasses
import io
import os
import re
import signal

import pytest

from jaxgpt import console
from jaxgpt.errors import DataError, UsageError
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
        console.parse(TrainConfig, words)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)
    assert capsys.readouterr().err == ""


def test_the_first_word_can_pick_a_config():
    @dataclasses.dataclass(frozen=True)
    class Copy:
        n: int = 1
        """How often."""

    @dataclasses.dataclass(frozen=True)
    class Move:
        to: str
        """Where to."""

    both = console.subcommands(copy=Copy, move=Move)
    assert console.parse(both, ["copy", "--n", "2"]) == Copy(2) and console.parse(both, ["move", "--to", "x"]) == Move(
        "x"
    )
    for words, message in (
        ([], "Expected one of {copy, move}; --help lists the flags"),
        (["delete"], "Unrecognized options: delete"),
        (["move"], "not given: --to STR; --help lists the flags"),
        (["copy", "--to", "x"], "Unrecognized or misplaced options: --to (applied to"),
    ):
        with pytest.raises(UsageError) as error:
            console.parse(both, words)
        assert str(error.value).startswith(message)


def test_help_has_every_flag_with_its_meaning_and_default(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    with pytest.raises(SystemExit) as stop:
        console.parse(TrainConfig, ["--help"])
    assert stop.value.code in (0, None)
    text = " ".join(capsys.readouterr().out.replace("│", " ").split())
    for field in dataclasses.fields(TrainConfig):
        _, about = re.split(rf" --{field.name.replace('_', '-')}(?:,? (?=[A-Z]+ |{{|--no-))", text, maxsplit=1)
        meaning, default = about.split(" (default: ", maxsplit=1)
        assert default.startswith(f"{field.default})"), field.name
        assert len(meaning.split()) >= 3, field.name


def test_errors_become_a_line_and_an_exit_code(capsys):
    def raising(error):
        def main(_):
            raise error

        return main

    assert console.run(raising(DataError("a.txt: two\n  lines")), []) == 3
    assert capsys.readouterr() == ("", "error: a.txt: two lines\n")
    assert console.run(raising(OSError(28, "No space left on device", "log.jsonl")), []) == 1
    assert capsys.readouterr() == ("", "error: log.jsonl: No space left on device\n")
    assert console.run(raising(KeyboardInterrupt()), []) == 130
    assert console.run(lambda argv: len(argv), ["x"] * 7) == 7
    with pytest.raises(ZeroDivisionError):  # a bug of ours stays loud
        console.run(raising(ZeroDivisionError()), [])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_only_noted_once(number, capfd):
    before = signal.getsignal(number)
    with console.stop_signals() as stopping:
        assert not stopping
        os.kill(os.getpid(), number)
        assert stopping == [number]
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    assert signal.getsignal(number) == before
    assert "stopping after the step in progress" in capfd.readouterr().err
