import os
import signal
import subprocess
import sys
import time

START = """
import signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's & has it ignored
from jaxgpt import signals
from jaxgpt.prepare.forkserver import run_forkserver
signals.exit_on_signals()
with run_forkserver():
    print("started", flush=True)
    time.sleep(60)
"""


def test_ctrl_c_while_it_imports_is_for_the_command_alone():
    """A terminal sends it to all processes of the command."""
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    command = subprocess.Popen([sys.executable, "-c", START], start_new_session=True, **pipes)
    assert command.stdout.readline() == "started\n"
    time.sleep(0.15)  # it imports for longer
    os.killpg(command.pid, signal.SIGINT)
    assert command.communicate(timeout=20) == ("", "error: interrupted\n")
