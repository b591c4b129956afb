import contextlib
import errno
import fcntl
import os
import subprocess
import sys

import pytest

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.locks import hold, hold_to_read, is_held, try_lock
from jaxgpt.processes import wait_for_workers
from jaxgpt.runs.folder import RunLock
from jaxgpt.runtime import process_number
from tests.support import nfs
from tests.support.trees import snapshot


@pytest.mark.parametrize("flock", [fcntl.flock, nfs.flock], ids=["local", "nfs"])
def test_a_folder_is_made_and_held(tmp_path, monkeypatch, flock):
    monkeypatch.setattr(fcntl, "flock", flock)
    code = "import fcntl, sys; from pathlib import Path; from jaxgpt.locks import hold; from tests.support import nfs\n"
    code += f"fcntl.flock = {'nfs' if flock is nfs.flock else 'fcntl'}.flock\n"
    code += "with hold(Path(sys.argv[1])): print('held')"
    with hold(tmp_path / "new" / "out"):
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "new" / "out"], capture_output=True, text=True)
        assert f"process {os.getpid()} on " in done.stderr and done.stdout == ""
    done = subprocess.run([sys.executable, "-c", code, tmp_path / "new" / "out"], capture_output=True, text=True)
    assert done.stdout == "held\n"


def test_a_command_that_only_reads_keeps_others_from_writing_and_writes_nothing(tmp_path):
    with hold_to_read(tmp_path):  # nobody has locked it yet
        assert list(tmp_path.iterdir()) == []
    with hold(tmp_path), pytest.raises(RetryableError, match=rf"\(process {os.getpid()} on "), hold_to_read(tmp_path):
        pass
    before = snapshot(tmp_path)
    with hold_to_read(tmp_path), hold_to_read(tmp_path):
        assert snapshot(tmp_path) == before
        with pytest.raises(RetryableError, match=r"in use by another command \(it only reads\); wait"), hold(tmp_path):
            pass
    assert snapshot(tmp_path) == before
    (tmp_path / ".lock").unlink()
    (tmp_path / ".lock").symlink_to("nowhere")
    for use in (hold, hold_to_read):
        with pytest.raises(UsageError, match=r"\.lock is a symbolic link, and jaxgpt writes"), use(tmp_path):
            pass
    (tmp_path / ".lock").unlink()
    os.mkfifo(tmp_path / ".lock")
    for use in (hold, hold_to_read):  # nor is there a wait for its other end
        with contextlib.suppress(UsageError), use(tmp_path):
            pass


def test_whether_a_folder_is_written_in_is_asked_without_a_trace(tmp_path):
    assert not is_held(tmp_path)
    with hold(tmp_path):
        assert is_held(tmp_path)
        assert is_held(tmp_path)
    before = snapshot(tmp_path)
    with hold_to_read(tmp_path):
        assert not is_held(tmp_path)
    assert not is_held(tmp_path) and snapshot(tmp_path) == before
    with hold(tmp_path):  # which the question did not keep
        pass


@pytest.fixture
def lock(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


@pytest.mark.parametrize("flock", [fcntl.flock, nfs.flock], ids=["local", "nfs"])
@pytest.mark.parametrize("shared", [(False, False), (False, True), (True, False), (True, True)], ids=str)
def test_shared_locks_exclude_exclusive_ones_alone(lock, monkeypatch, flock, shared):
    monkeypatch.setattr(fcntl, "flock", flock)
    with contextlib.ExitStack() as stack:
        first, second = (stack.enter_context(lock.open("rb" if each else "ab")) for each in shared)
        assert try_lock(first, shared[0]) and try_lock(second, shared[1]) is all(shared)
        first.close()
        assert try_lock(second, shared[1])


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS])
def test_a_file_system_without_locks_is_one_line(tmp_path, lock, monkeypatch, number):
    def flock(file, operation):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    uses = {
        tmp_path / "prepared" / ".lock": lambda: hold(tmp_path / "prepared").__enter__(),
        tmp_path / "run" / ".lock": RunLock(tmp_path / "run").make,
        lock: lambda: wait_for_workers(lock),
    }
    for path, use in uses.items():
        with pytest.raises(UsageError) as caught:
            use()
        message = f"{path} can't be locked ({os.strerror(number)}); mount its file system with locks (Lustre: -o flock)"
        assert str(caught.value) == message + ", or choose a folder on another"
    with process_number.claim(tmp_path / "run", 0, pytest.fail):  # what makes the run's lock next says it
        process_number._held.pop().close()
