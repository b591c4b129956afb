import io
import os
import subprocess
import sys

import pytest

from jaxgpt import console
from jaxgpt.errors import DataError


def test_a_report_is_on_stdout_and_a_remark_on_stderr(capsys):
    console.say("saved", "out.json")
    console.say("documents", "3")
    console.note("it was cut")
    assert capsys.readouterr() == ("saved     out.json\ndocuments 3\n", "note: it was cut\n")


def test_what_a_terminal_would_act_on_is_escaped(capsys):
    acted_on = [*range(32), *range(127, 160), 0x61C, 0x200E, 0x200F, *range(0x2028, 0x202F), *range(0x2066, 0x206A)]
    for character in map(chr, [*acted_on, 0xAD, 0xFEFF, 0xDC9B]):
        escaped = repr(character)[1:-1]
        assert console.escape(f"a{character}b") == f"a{escaped}b" and escaped.isascii() and "\\" in escaped
        assert console.escape(character, keep=character) == character
    kept = "\u00ef \u65e5\u3000\u672c 10\u202f000\u00a0\u20ac \u06cc\u200c\u0634 \U0001f468\u200d\U0001f469\ufe0f \\x1b"
    assert console.escape(kept) == kept
    console.say("a\x1b", "b\n\x9b1m")
    console.note("c\r\u202e")
    assert console.run(raising(DataError("d\x1b[31m\n\x07")), []) == 3
    said, noted = capsys.readouterr()
    assert said == "a\\x1b     b\\n\\x9b1m\n" and noted == "note: c\\r\\u202e\nerror: d\\x1b[31m \\x07\n"


def test_a_models_text_is_escaped_for_a_terminal_alone(monkeypatch):
    text = "a\tb\r\n\x1b[2J"
    for is_terminal, shown in ((True, "a\tb\\r\n\\x1b[2J"), (False, text)):
        monkeypatch.setattr(sys.stdout, "isatty", lambda is_terminal=is_terminal: is_terminal)
        assert console.escape_for_terminal(text) == shown


def test_a_number_agrees_with_its_noun():
    assert [console.plural(n, "step") for n in (0, 1, 2000, 1.5)] == ["0 steps", "1 step", "2,000 steps", "1.5 steps"]
    assert console.plural(1.0, "batch", "batches") == "1 batch"
    assert console.plural(2640.0, "batch", "batches") == "2,640 batches"


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


def raising(error):
    def main(_):
        raise error

    return main


def test_errors_become_a_line_and_an_exit_code(capsys):
    assert console.run(raising(DataError("a.txt: two\n  lines")), []) == 3
    assert capsys.readouterr() == ("", "error: a.txt: two lines\n")
    assert console.run(raising(OSError(28, "No space left on device", "log.jsonl")), []) == 1
    assert capsys.readouterr() == ("", "error: log.jsonl: No space left on device\n")
    for error in (MemoryError(), OSError(12, "Cannot allocate memory")):
        assert console.run(raising(error), []) == 75
        assert capsys.readouterr() == ("", "error: out of memory; give it more, or raise the limit (ulimit -v)\n")
    assert console.run(raising(RuntimeError("can't start new thread")), []) == 75
    assert capsys.readouterr().err == "error: can't start new thread; raise the limits (ulimit -u, ulimit -v)\n"
    with pytest.raises(RuntimeError):
        console.run(raising(RuntimeError()), [])
    assert console.run(lambda argv: len(argv), ["x"] * 7) == 7
    with pytest.raises(ZeroDivisionError):  # a bug of ours stays loud
        console.run(raising(ZeroDivisionError()), [])


def test_what_stdout_lacks_is_noted_once(monkeypatch, capsys):
    console._note_lost_letters.cache_clear()
    for encoding, printed, notes in (("utf-8", "süß", 0), ("ascii", "s??", 1), ("latin-1", "süß", 0)):
        monkeypatch.setattr("sys.stdout", io.TextIOWrapper(io.BytesIO(), encoding))
        assert console.run(lambda _: print("süß") or print("süß") or 0, []) == 0
        console.sys.stdout.flush()
        assert console.sys.stdout.buffer.getvalue().decode(encoding) == f"{printed}\n{printed}\n"
        assert capsys.readouterr().err.count("note: stdout is ascii: a letter that it lacks is printed as ?") == notes


def test_a_name_that_the_locale_can_not_write_is_one_line(capsys):
    assert console.run(lambda _: len("é\udc80".encode("ascii")), []) == 2
    assert capsys.readouterr().err == (
        "error: the letter U+00E9 of a name can't be written in ascii; use a UTF-8 locale, such as LC_ALL=C.UTF-8, "
        "or set PYTHONUTF8=1\n"
    )


@pytest.mark.parametrize(
    "name, value",
    [("JAX_NUM_CPU_DEVICES", "abc"), pytest.param("JAX_ENABLE_X64", "maybe", marks=pytest.mark.slow)],
)
def test_a_setting_that_jax_cannot_read_is_one_line(name, value):
    code = "from jaxgpt import console; sys.exit(console.run(lambda _: __import__('jax'), []))"
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, '.'); {code}"]
    done = subprocess.run(command, env=os.environ | {name: value}, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2 and done.stderr.startswith("error: ") and done.stderr.count("\n") == 1
    assert value in done.stderr and name in done.stderr.upper()
    assert done.stderr.endswith("; correct the environment variable of that name, or unset it\n")
