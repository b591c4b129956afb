"""The table of commands: what is listed, what is refused, and that neither takes more than the table."""

import json
import os
import re
import subprocess
import sys
import tomllib
import types
from pathlib import Path

import pytest

import jaxgpt
from jaxgpt import commands, console
from jaxgpt.commands import COMMANDS

ROOT = Path(__file__).parents[2]


def run(*words):
    return console.run(commands.main, list(words))


def test_each_file_is_a_command_of_the_table():
    files = {path.stem for path in Path(commands.__file__).parent.glob("[!_]*")} - {"flags"}
    assert files == COMMANDS.keys()
    assert all(module == f"jaxgpt.commands.{name}" for name, (module, _) in COMMANDS.items())


def test_help_lists_all_of_them(capsys):
    assert run("--help") == run("-h") == run("help") == 0
    out, err = capsys.readouterr()
    assert err == "" and out[: len(out) // 3] * 3 == out
    for name, (_, about) in COMMANDS.items():
        assert re.search(rf"^  {name} +{re.escape(about)}$", out, re.MULTILINE)
    assert max(map(len, out.splitlines())) < 100
    assert run() == 2
    assert capsys.readouterr() == ("", out[: len(out) // 3])


@pytest.mark.parametrize(
    "word, said",
    [
        ("smaple", "smaple: no such command; did you mean sample? --help lists the commands"),
        ("eval", "eval: no such command; did you mean evaluate?"),
        ("Train", "Train: no such command; did you mean train?"),
        ("--B", "--B: the first word names a command, such as train; --help lists the commands"),
    ],
)
def test_what_is_no_command_is_one_line(word, said, capsys):
    assert run(word, "4") == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith(f"error: {said}") and err.count("\n") == 1


def test_the_version_is_the_packages(capsys):
    assert run("--version") == 0 and capsys.readouterr().out == f"jaxgpt {jaxgpt.__version__}\n"
    assert re.fullmatch(r"\d+\.\d+\.\d+", jaxgpt.__version__)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["dynamic"]["version"] == {"attr": "jaxgpt.__version__"}
    assert project["project"]["scripts"] == {"jaxgpt": "jaxgpt.__main__:main"}


def in_a_new_process(code, *words):
    done = subprocess.run([sys.executable, "-c", code, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1]), done.stderr


def test_the_list_is_printed_without_a_library():
    code = "import json, sys\nfrom jaxgpt import commands, console\n"
    code += "assert console.run(commands.main, ['--help']) == 0\n"
    code += "print(json.dumps(list(sys.modules)))"
    found, _ = in_a_new_process(code)
    assert not {"jax", "numpy", "tyro", "rich", "tiktoken"} & set(found)
    ours = {name for name in found if name.partition(".")[0] == "jaxgpt"}
    assert ours == {"jaxgpt", "jaxgpt.commands", "jaxgpt.console", "jaxgpt.errors"}


def test_a_wrong_flag_of_any_command_is_refused_before_jax_is_imported():
    code = "import json, sys\nfrom jaxgpt import commands, console\n"
    code += "codes = [console.run(commands.main, [name, '--no-such-flag']) for name in sys.argv[1:]]\n"
    code += "print(json.dumps([codes, sorted({'jax', 'numpy.ma', 'orbax', 'torch', 'lm_eval'} & set(sys.modules))]))"
    (codes, found), errors = in_a_new_process(code, *COMMANDS)
    assert codes == [2] * len(COMMANDS) and found == []
    lines = errors.splitlines()
    assert len(lines) == len(COMMANDS)
    assert all(line.startswith("error: ") and line.endswith("; --help lists the flags") for line in lines)


def test_the_module_is_the_program():
    command = [sys.executable, "-m", "jaxgpt"]
    for words, code in (([], 2), (["--version"], 0), (["fit", "--nonsense"], 2)):
        done = subprocess.run([*command, *words], cwd=ROOT, capture_output=True, text=True, timeout=120)
        assert done.returncode == code and "Traceback" not in done.stderr
    done = subprocess.run([sys.executable, "train.py", "--help"], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stdout.startswith("usage: python train.py ")


def test_a_limit_that_the_libraries_exceed_is_one_line_of_any_command():
    """They would abort; with a limit that suffices, the wrong flag is found."""
    code = "import json, resource, sys\nfrom jaxgpt import commands, console\n"
    code += "codes = []\nfor limit in (10**8, 10**10):\n"
    code += "    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.getrlimit(resource.RLIMIT_AS)[1]))\n"
    code += "    commands.os.sched_getaffinity = lambda pid: range(4)\n"
    code += "    codes.append([console.run(commands.main, [name, '--no-such-flag']) for name in sys.argv[1:]])\n"
    code += "print(json.dumps(codes))"
    codes, errors = in_a_new_process(code, *COMMANDS)
    assert codes == [[75] * len(COMMANDS), [2] * len(COMMANDS)]
    without_jax = ("prepare", "tokenizer", "inspect", "erase", "report", "track", "agreement")
    for line, name in zip(errors.splitlines(), COMMANDS, strict=False):
        needed = r"0\.9" if name in without_jax else r"5\.4"
        assert re.fullmatch(rf"error: .* limited to 0\.1 GB, and {name} needs more than {needed} GB; raise .*", line)


def test_what_a_command_writes_is_its_users_alone(tmp_path, monkeypatch):
    """And what the programs write that it starts."""
    write = "import sys; open(sys.argv[1], 'w'); import os; os.mkdir(sys.argv[1] + '-folder')"

    def main(words):
        (tmp_path / "file").touch()
        subprocess.run([sys.executable, "-c", write, tmp_path / "child"], check=True)
        return 7

    module = types.ModuleType("jaxgpt.commands.greet")
    module.main = main
    monkeypatch.setitem(sys.modules, "jaxgpt.commands.greet", module)
    monkeypatch.setitem(COMMANDS, "greet", ("jaxgpt.commands.greet", "greet somebody"))
    before = os.umask(0)
    try:
        assert run("greet") == 7
    finally:
        assert os.umask(before) == 0
    modes = {path.name: path.stat().st_mode & 0o777 for path in tmp_path.iterdir()}
    assert modes == {"file": 0o600, "child": 0o600, "child-folder": 0o700}
