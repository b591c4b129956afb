"""A reward's process: whatever its function does, the command gets numbers or one error, and nothing outlives it."""

import contextlib
import gc
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt.environments.reward_process import Answer, RewardProcess
from jaxgpt.environments.rewards import open_reward
from jaxgpt.errors import DataError

REWARDS = '''
import ctypes, multiprocessing, os, sys, time
from beside import HALF
print("loaded")


def score(prompt, answer, record):
    """One reward function, whose behavior each record chooses."""
    print(prompt)
    return eval(record.pop("do"))  # a record is its own copy


def end_fork():
    process = multiprocessing.get_context("fork").Process(target=time.sleep, args=[60])
    process.start()
    process.terminate()
    process.join()
    return process.exitcode
'''
NP = "__import__('numpy')"
HANGS = "__import__('re').search('(a+)+$', 'a' * 40 + 'b')"  # in C, so that no Python runs meanwhile


@pytest.fixture(scope="module")
def spec(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rewards")
    (folder / "beside.py").write_text("HALF = 0.5")
    (folder / "mine.py").write_text(REWARDS)
    return f"{folder / 'mine.py'}:score"


@pytest.fixture
def started(monkeypatch):
    """Starts a process, which is ended after the test."""
    with contextlib.ExitStack() as cleanup:

        def start(spec, **limits):
            process = RewardProcess(open_reward(spec), **limits)
            cleanup.callback(process.close)
            return process

        yield start


def answers(*codes):
    return [Answer(f"p.jsonl, line {n}", "a prompt", f" answer {n}", {"do": code}) for n, code in enumerate(codes, 1)]


def is_running(pid):
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def wait_until(holds):
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_numbers_of_any_type_come_back_in_order(spec, started, capfd):
    process = started(spec)
    shared = answers("HALF")[0]
    codes = ["1", "True", "2.5", f"{NP}.float32(0.25)", f"{NP}.bool_(False)", f"{NP}.array(3)", "-1e9", "len(answer)"]
    assert process.rewards(answers(*codes)) == [1, 1, 2.5, 0.25, 0, 3, -1e9, 9]
    assert process.rewards([shared, shared]) == [0.5, 0.5]
    assert process.rewards(answers("sum(name == 'jax' or name.startswith('jaxgpt.d') for name in sys.modules)")) == [0]
    many = [Answer("", "p" * 5000, "\ud800 é" * 500, {"do": f"len(answer) + {n}"}) for n in range(500)]  # 6 MB
    assert process.rewards(many) == [1500 + n for n in range(500)]
    out, err = capfd.readouterr()
    assert out == "" and err.startswith("loaded\na prompt\n")


@pytest.mark.parametrize(
    "code, message",
    [
        ("1 / 0", "raised ZeroDivisionError (FILE, line 10) on an answer of 9 characters; correct it"),
        ("input()", "raised EOFError (FILE, line 10) on"),
        ("sys.exit('a\\nb')", "raised SystemExit (FILE, line 10) on"),
        ("float('nan')", "returned nan, which is no finite number, on an answer of 9 characters; correct it"),
        ("10 ** 400", "returned a value of type int, which is no finite number, on"),
        ("'1'", "returned a value of type str, which is no finite number, on"),
        ("os._exit(3)", "ended its process on an answer of 9 characters (exit code 3); correct it"),
        ("ctypes.string_at(0)", "ended its process on an answer of 9 characters (SIGSEGV); correct it"),
        (
            "os.kill(os.getpid(), 9)",
            "ended its process on an answer of 9 characters (SIGKILL, maybe out of memory); corr",
        ),
    ],
)
def test_a_function_that_fails_is_one_line_with_the_prompt(code, message, spec, started):
    process = started(spec)
    with pytest.raises(DataError) as error:
        process.rewards(answers("1", code, "1"))
    path = spec.rpartition(":")[0]
    assert str(error.value).startswith(f"p.jsonl, line 2: the reward {spec} {message.replace('FILE', path)}")
    assert "\n" not in str(error.value) and not process.close.alive


def test_a_function_that_hangs_is_ended_with_all_that_it_started(spec, started):
    process = started(spec, limit_s=0.5)
    slow = "time.sleep(0.2)"  # three of them take longer than the limit of one
    assert process.rewards(answers(*[f"{slow} or 1"] * 3)) == [1, 1, 1]
    child = "__import__('subprocess').Popen(['sleep', '60']).pid"
    pid = process.rewards(answers(child))[0]
    with pytest.raises(
        DataError, match=r"line 2: .* took more than 0.5 s on an answer of 9 characters; make it faster"
    ):
        process.rewards(answers("1", HANGS))
    wait_until(lambda: not is_running(int(pid)))


@pytest.mark.parametrize(
    "content, message",
    [
        (
            "import nothing_of_this_name",
            "raised ModuleNotFoundError: No module named 'nothing_of_this_name' (FILE, line 1)",
        ),
        ("def f(:", "raised SyntaxError: invalid syntax (r.py, line 1)"),
        ("def g(): pass", "raised NameError: FILE has no function f(prompt, answer, record)"),
        ("def f(prompt, answer): pass", "raised TypeError: too many positional arguments"),
        ("import os; os._exit(0)", "ended its process when its file was loaded (exit code 0)"),
        ("import time; time.sleep(60)", "took more than 0.5 s when its file was loaded"),
    ],
)
def test_a_file_that_can_not_be_loaded_is_one_line(content, message, write, started):
    path = write("r.py", content)
    with pytest.raises(DataError) as error:
        started(f"{path}:f", start_limit_s=0.5 if "time" in content else 60)
    assert str(error.value).startswith(f"--reward {path}:f: {message.replace('FILE', path)}")
    assert [each.name for each in Path(path).parent.iterdir() if each.name != "cache"] == ["r.py"]  # no bytecode


def test_signals_by_which_a_run_stops_do_not_end_it(spec, started):
    process = started(spec)
    for each in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        assert process.rewards(answers(f"os.kill(os.getpid(), {int(each)}) or 1")) == [1]
    assert process.rewards(answers("os.getsid(0) == os.getpid()"))[0]  # Ctrl-C does not even reach it
    assert process.rewards(answers(*["end_fork()"] * 10)) == [-signal.SIGTERM] * 10  # they end the function's own


def test_it_ends_when_it_is_let_go_of(spec):
    process = RewardProcess(open_reward(spec))
    pid = process.rewards(answers("os.getpid()"))[0]
    assert is_running(int(pid))
    del process
    gc.collect()
    assert not is_running(int(pid))


@pytest.mark.parametrize("hangs", [False, True])
def test_kill_9_of_the_command_ends_it(hangs, spec):
    """Also in code that runs no Python, and with the processes that it has started."""
    code = f"""
from jaxgpt.environments.reward_process import *
process = RewardProcess(open_reward({spec!r}))
for do in ("os.getpid()", "__import__('subprocess').Popen(['sleep', '60']).pid", {HANGS if hangs else "1"!r}):
    print(int(process.rewards([Answer("", "", "", {{"do": do}})])[0]), flush=True)
input()
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], cwd=Path(__file__).parents[2], **pipes) as command:
        pids = [int(command.stdout.readline()) for _ in range(2)]
        assert all(map(is_running, pids))
        if not hangs:
            command.stdout.readline()
        command.kill()
    wait_until(lambda: not any(map(is_running, pids)))
