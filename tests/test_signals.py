import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from jaxgpt.signals import stop_signals

ROOT = Path(__file__).parents[1]
LINES = {
    signal.SIGINT: "error: interrupted\n",
    signal.SIGTERM: "error: terminated\n",
    signal.SIGHUP: "error: the terminal was closed\n",
}
# What a shell starts behind & ignores SIGINT, under nohup SIGHUP, and so would its children.
LISTEN = """import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
signal.signal(signal.SIGHUP, signal.SIG_DFL)
"""
BUSY = """
import hashlib, pathlib, sys, time
from jaxgpt import signals
from jaxgpt.files import new_file, new_folder

signals.exit_on_signals()
folder = pathlib.Path(sys.argv[1])
with new_folder(folder / "model", ()) as part, new_file(folder / "result") as temporary:
    for path in temporary, part / "config.json":
        path.write_text("half")
    print("half", flush=True)
    {work}
"""
# Like a module of C code, it sends the signal while Python imports what has the name.
SEND = """
import os, runpy, sys
class Send:
    def find_spec(self, name, path, target=None):
        if name == "{name}":
            os.kill(os.getpid(), {number})
sys.meta_path.insert(0, Send())
sys.argv = ["jaxgpt", "evaluate", "nowhere", "--data", "shakespeare"]
runpy.run_module("jaxgpt", run_name="__main__", alter_sys=True)
"""


def start(code, *words):
    command = [sys.executable, "-c", LISTEN + code, *words]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


@pytest.mark.parametrize("number", LINES)
@pytest.mark.parametrize(
    "work",
    [
        "while True: pass",
        "hashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)",  # C code that asks for no signal, for some 15 minutes
        "try: time.sleep(60)\n    except BaseException: pass",
    ],
)
def test_a_signal_ends_a_process_at_once_and_leaves_no_half_written_file(work, number, tmp_path):
    with start(BUSY.format(work=work), str(tmp_path)) as process:
        try:
            assert process.stdout.readline() == "half\n"
            assert len(list(tmp_path.rglob("*"))) == 3
            started = time.monotonic()
            process.send_signal(number)
            _, errors = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, errors) == (128 + number, LINES[number])
    assert time.monotonic() - started < 5 and list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("name", ["jaxgpt.commands", "tyro", "numpy"])
def test_a_signal_while_a_command_is_imported_is_one_line(name, number):
    with start(SEND.format(name=name, number=int(number))) as process:
        output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (128 + number, "", LINES[number])


def test_a_forked_child_ends_alone():
    code = """
import os, signal, sys, warnings
from jaxgpt import signals
warnings.simplefilter("ignore")  # from Python 3.12 on, os.fork warns of the thread
signals.exit_on_signals()
reader, writer = os.pipe()
if (child := os.fork()) == 0:
    os.write(writer, b".")
    signal.pause()
os.read(reader, 1)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    with start(code) as process:
        assert process.communicate(timeout=60) == ("-15\n", "") and process.returncode == 0


@pytest.fixture
def hangup():
    """SIGHUP as without nohup; it would end the tests."""
    before = signal.signal(signal.SIGHUP, lambda *_: pytest.fail("nothing handles SIGHUP"))
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", LINES)
def test_a_signal_is_only_noted_once(number, hangup, capfd):
    before = signal.getsignal(number)
    with stop_signals() as stopping:
        assert not stopping
        os.kill(os.getpid(), number)
        assert stopping == [number]
        assert signal.getsignal(signal.SIGINT) == signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
        os.kill(os.getpid(), signal.SIGHUP)  # a shell sends it, and the system again
    assert signal.getsignal(number) == before
    assert "stopping after the step in progress" in capfd.readouterr().err


def test_nohup_has_a_hangup_ignored(hangup):
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with stop_signals() as stopping:
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGTERM)
        assert stopping == [signal.SIGTERM] and signal.getsignal(signal.SIGHUP) == signal.SIG_IGN


IN_TERMINAL = """
import os, sys, time
from jaxgpt import console, signals

signals.exit_on_signals()
os.open(os.ttyname(0), os.O_RDWR)  # of a new session's first process, it becomes the terminal

def main(argv):
    with signals.stop_signals() as received:
        print("begun", flush=True)
        while not received:
            time.sleep(0.01)
        for number in range(3):
            print("a step")
            console.note("a remark")
        open(argv[0], "w").close()
        return 128 + received[0]

console.leave(console.run(main, sys.argv[1:]))
"""


def test_a_run_whose_terminal_is_closed_ends_by_itself(tmp_path):
    """What it prints meanwhile is lost, and no error."""
    terminal, end = os.openpty()
    command = [sys.executable, "-c", LISTEN + IN_TERMINAL, str(tmp_path / "saved")]
    with subprocess.Popen(command, cwd=ROOT, stdin=end, stdout=end, stderr=end, start_new_session=True) as process:
        os.close(end)
        try:
            assert os.read(terminal, 100) == b"begun\r\n"
            os.close(terminal)
            assert process.wait(timeout=60) == 128 + signal.SIGHUP
        finally:
            process.kill()
    assert (tmp_path / "saved").exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_before_the_handlers_are_there_waits_for_them(number):
    script = f"""
import os, threading, time
from jaxgpt import signals

class Slow(threading.Thread):
    def start(self):
        os.kill(os.getpid(), {int(number)})
        super().start()

threading.Thread = Slow
signals.exit_on_signals()
time.sleep(20)
"""
    with start(script) as process:
        output = process.communicate(timeout=60)
    assert (process.returncode, *output) == (128 + number, "", LINES[number])
