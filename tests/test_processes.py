import os
import subprocess
import sys
import time
from pathlib import Path

from jaxgpt import processes
from jaxgpt.locks import try_lock
from jaxgpt.processes import run_command, wait_for_workers


def test_what_a_command_prints_is_in_its_file(tmp_path):
    (tmp_path / "lock").touch()
    code = "import os, sys; print(os.getcwd()); print('wrong', file=sys.stderr); sys.exit(3)"
    run_command([sys.executable, "-c", code], tmp_path, tmp_path / "out", tmp_path / "lock")
    assert sorted((tmp_path / "out").read_text().splitlines()) == sorted([str(tmp_path), "wrong"])


ROOT = Path(__file__).parent.parent
CHILD = """
import signal, time
signal.signal(signal.SIGTERM, lambda *_: print("once", flush=True))
print("on", flush=True)
signal.pause()
time.sleep(1)
"""


def test_a_command_ends_with_its_parent_and_holds_the_lock_till_then(tmp_path, monkeypatch):
    (lock := tmp_path / "lock").touch()
    code = f"""
import sys
from pathlib import Path
from jaxgpt.processes import run_command
run_command([sys.executable, "-c", {CHILD!r}], Path("."), Path("out"), Path("lock"))
"""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen([sys.executable, "-c", code], cwd=tmp_path, env=environment) as parent:
        while not (tmp_path / "out").exists() or "on" not in (tmp_path / "out").read_text():
            assert parent.poll() is None
            time.sleep(0.05)
        parent.kill()
    with lock.open("a") as file:
        assert not try_lock(file)  # it ends a second later
    monkeypatch.setattr(processes, "POLL_SECONDS", 0.1)
    wait_for_workers(lock)
    assert (tmp_path / "out").read_text() == "on\nonce\n"  # a second signal would end a training run without a save
