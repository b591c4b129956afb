import _multiprocessing
import fcntl
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from datatrove.pipeline.base import PipelineStep

from jaxgpt import processes
from jaxgpt.errors import JaxgptError, RetryableError, UsageError
from jaxgpt.prepare import executors
from tests.support import nfs

ROOT = Path(__file__).parents[2]


class Act(PipelineStep):
    """Writes a file a task; task 1 performs the act."""

    type, name = "TEST", "act"

    def __init__(self, folder, act=None):
        super().__init__()
        self.folder, self.act = folder, act

    def run(self, data=None, rank=0, world_size=1):
        if rank == 1 and self.act == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if rank == 1 and self.act in ("fail", "fill"):
            text = "the private text of a document"
            raise KeyError(text) if self.act == "fail" else OSError(28, "No space left on device", "0.bin")
        if rank == 1 and self.act == "refuse":
            raise UsageError("not like this")
        while self.act == "hold" and not (self.folder / "go").exists():
            time.sleep(0.02)
        (self.folder / f"{rank}.txt").write_text(f"{os.getpid()}")
        while self.act == "write on":
            time.sleep(0.01)
            with (self.folder / f"{rank}.txt").open("a") as file:
                file.write(".")


@pytest.fixture
def lock(tmp_path):
    (tmp_path / "lock").touch()
    return tmp_path / "lock"


def test_tasks_run_once_and_only_those_that_are_not_done(tmp_path, lock):
    done = []
    with executors.local(1, lock) as run:
        run([Act(tmp_path)], 3, tmp_path / "logs", done.append)
        (tmp_path / "0.txt").unlink()
        (tmp_path / "logs" / "completions" / "00002").unlink()
        run([Act(tmp_path)], 3, tmp_path / "logs", done.append)
    assert done == [1, 1, 1, 1] and not (tmp_path / "0.txt").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_librarys_error_is_one_line_that_names_the_log_and_nothing_quotes_a_document(tmp_path, lock, capfd, workers):
    with executors.local(workers, lock) as run:
        log = rf"{tmp_path}/logs/logs/task_00001\.log"
        with pytest.raises(JaxgptError, match=rf"^KeyError in test_executors.py, line \d+; {log} says more") as error:
            run([Act(tmp_path, "fail")], 2, tmp_path / "logs", lambda done: None)
        with pytest.raises(OSError, match=r"No space left on device: '0.bin'$"):
            run([Act(tmp_path, "fill")], 2, tmp_path / "full", lambda done: None)
        for folder, kind in (("logs", "KeyError"), ("full", "OSError")):
            said = (tmp_path / folder / "logs" / "task_00001.log").read_text() + str(error.value)
            assert "test_executors.py" in said and f"- {kind}\n" in said and "private" not in said
        assert {path.stat().st_mode & 0o077 for path in (tmp_path / "logs").rglob("*") if path.is_file()} == {0}
        with pytest.raises(UsageError, match="not like this"):
            run([Act(tmp_path, "refuse")], 2, tmp_path / "others", lambda done: None)
    assert capfd.readouterr() == ("", "")


def test_without_semaphores_this_process_does_the_work(tmp_path, lock, capsys, monkeypatch):
    """As where /dev/shm is missing, or read-only."""

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(_multiprocessing, "SemLock", refuse)
    with executors.local(3, lock) as run:
        run([Act(tmp_path)], 2, tmp_path / "logs", lambda done: None)
    assert {(tmp_path / f"{rank}.txt").read_text() for rank in range(2)} == {str(os.getpid())}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: ") and line.endswith(" /dev/shm: Read-only file system; --workers 1 in place of 3")


def test_a_killed_worker_is_reported(tmp_path, lock):
    with pytest.raises(RetryableError, match="a worker was killed"), executors.local(2, lock) as run:
        run([Act(tmp_path, "die")], 2, tmp_path / "logs", lambda done: None)


def test_workers_end_with_their_parent_and_the_next_start_waits_for_them(tmp_path, lock, monkeypatch):
    """kill -9 of the parent alone; its workers would write for ever. Of all locks, NFS's are the strictest."""
    monkeypatch.setattr(fcntl, "flock", nfs.flock)
    code = f"""
        from pathlib import Path
        from jaxgpt.prepare import executors
        from tests.prepare.test_executors import Act
        if __name__ == "__main__":
            folder = Path({str(tmp_path)!r})
            with executors.local(2, Path({str(lock)!r})) as run:
                run([Act(folder, "write on")], 2, folder / "logs", print)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    path = os.pathsep.join(map(str, (nfs.folder(tmp_path / "nfs"), ROOT)))
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": path})
    try:
        files = [tmp_path / f"{rank}.txt" for rank in range(2)]
        until = time.monotonic() + 60
        while not all(file.exists() and file.stat().st_size > 20 for file in files):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    processes.wait_for_workers(lock)
    written = [file.read_text() for file in files]
    time.sleep(0.2)
    assert [file.read_text() for file in files] == written
