import pytest

from jaxgpt import console
from jaxgpt.errors import DataError


def test_a_report_is_on_stdout_and_a_remark_on_stderr(capsys):
    console.say("saved", "out.json")
    console.say("documents", "3")
    console.note("it was cut")
    assert capsys.readouterr() == ("saved     out.json\ndocuments 3\n", "note: it was cut\n")


@pytest.mark.parametrize(
    "script, command, said",
    [
        ("/venv/bin/jaxgpt", "sample", "jaxgpt sample"),
        ("jaxgpt.exe", "train", "jaxgpt train"),
        ("/venv/lib/jaxgpt/__main__.py", "train", "python -m jaxgpt train"),
        ("train.py", "train", "python train.py"),
        ("train.py", "sample", "python -m jaxgpt sample"),  # the script of that name may not be there
        ("-c", "train", "python -m jaxgpt train"),
    ],
)
def test_a_command_is_named_as_the_program_was_started(script, command, said, monkeypatch):
    monkeypatch.setattr("sys.argv", [script, "--B", "4"])
    assert console.program(command) == said


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
