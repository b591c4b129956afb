import _multiprocessing
import json
import os
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from datatrove.pipeline.base import PipelineStep

from jaxgpt.errors import JaxgptError, RetryableError, UsageError
from jaxgpt.prepare import executors

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
        if rank == 1 and self.act == "fail":
            raise KeyError("a library did not foresee this")
        if rank == 1 and self.act == "refuse":
            raise UsageError("not like this")
        (self.folder / f"{rank}.txt").write_text(f"{os.getpid()}")
        while self.act == "write on":
            time.sleep(0.01)
            with (self.folder / f"{rank}.txt").open("a") as file:
                file.write(".")


def test_tasks_run_once_and_only_those_that_are_not_done(tmp_path):
    done = []
    with executors.local(1, tmp_path / "lock") as run:
        run([Act(tmp_path)], 3, tmp_path / "logs", done.append)
        (tmp_path / "0.txt").unlink()
        (tmp_path / "logs" / "completions" / "00002").unlink()
        run([Act(tmp_path)], 3, tmp_path / "logs", done.append)
    assert done == [1, 1, 1, 1] and not (tmp_path / "0.txt").exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_librarys_error_is_one_line_that_names_the_log(tmp_path, capfd, workers):
    with executors.local(workers, tmp_path / "lock") as run:
        with pytest.raises(JaxgptError, match=rf"KeyError: .*; {tmp_path}/logs/logs/task_00001\.log says where"):
            run([Act(tmp_path, "fail")], 2, tmp_path / "logs", lambda done: None)
        assert "Traceback" in (tmp_path / "logs" / "logs" / "task_00001.log").read_text()
        with pytest.raises(UsageError, match="not like this"):
            run([Act(tmp_path, "refuse")], 2, tmp_path / "others", lambda done: None)
    assert capfd.readouterr() == ("", "")


def test_without_semaphores_this_process_does_the_work(tmp_path, capsys, monkeypatch):
    """As where /dev/shm is missing, or read-only."""

    def refuse(*_):
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(_multiprocessing, "SemLock", refuse)
    with executors.local(3, tmp_path / "lock") as run:
        run([Act(tmp_path)], 2, tmp_path / "logs", lambda done: None)
    assert {(tmp_path / f"{rank}.txt").read_text() for rank in range(2)} == {str(os.getpid())}
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("note: ") and line.endswith(" /dev/shm: Read-only file system; --workers 1 in place of 3")


def test_a_killed_worker_is_reported(tmp_path):
    with pytest.raises(RetryableError, match="a worker was killed"), executors.local(2, tmp_path / "lock") as run:
        run([Act(tmp_path, "die")], 2, tmp_path / "logs", lambda done: None)


def test_workers_end_with_their_parent_and_the_next_start_waits_for_them(tmp_path):
    """kill -9 of the parent alone; its workers would write for ever."""
    code = f"""
        from pathlib import Path
        from jaxgpt.prepare import executors
        from tests.prepare.test_executors import Act
        if __name__ == "__main__":
            folder = Path({str(tmp_path)!r})
            with executors.local(2, folder / "lock") as run:
                run([Act(folder, "write on")], 2, folder / "logs", print)
    """
    script = tmp_path / "script.py"
    script.write_text(textwrap.dedent(code))
    parent = subprocess.Popen([sys.executable, script], env=os.environ | {"PYTHONPATH": str(ROOT)})
    try:
        files = [tmp_path / f"{rank}.txt" for rank in range(2)]
        until = time.monotonic() + 60
        while not all(file.exists() and file.stat().st_size > 20 for file in files):
            assert time.monotonic() < until
            time.sleep(0.05)
    finally:
        parent.kill()
        parent.wait()
    with executors.local(1, tmp_path / "lock"):
        written = [file.read_text() for file in files]
        time.sleep(0.2)
        assert [file.read_text() for file in files] == written


SBATCH = """#!/usr/bin/env python3
# A SLURM of one machine: runs the tasks of the array one after another, in the background, as a queue does.
import json, os, re, subprocess, sys
options, script = sys.argv[1:-1], open(sys.argv[-1]).read()
if "merge_stats" in script:
    print("Submitted batch job 2")
    sys.exit()
with open(os.environ["JOBS"], "a") as file:
    print(json.dumps(re.findall("^#SBATCH --(.*)$", script, re.MULTILINE)), file=file)
if os.fork() == 0:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDWR)
    for end in (0, 1, 2):
        os.dup2(nowhere, end)
    first, last = map(int, re.search("--array=(\\\\d+)-(\\\\d+)", script).groups())
    for task in range(first, last + 1):
        environment = {**os.environ, "SLURM_ARRAY_TASK_ID": str(task), "SLURM_NODELIST": "here"}
        subprocess.run(["bash"], input=script, text=True, env=environment)
    os.unlink(os.environ["JOBS"] + ".queued")
    os._exit(0)
open(os.environ["JOBS"] + ".queued", "w")
print("Submitted batch job 1")
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Fake SLURM commands."""
    commands = {
        "sbatch": SBATCH,
        "srun": '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n',
        "squeue": '#!/bin/bash\n[[ -e $JOBS.queued ]] && echo "1 cpu"\ntrue\n',
        "scontrol": "#!/bin/bash\necho here\n",
    }
    (tmp_path / "bin").mkdir()
    for name, script in commands.items():
        (tmp_path / "bin" / name).write_text(script)
        (tmp_path / "bin" / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("JOBS", str(tmp_path / "jobs"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT / "tests"))  # where its jobs find Act
    return tmp_path / "jobs"


def test_slurm_runs_the_tasks_as_an_array(tmp_path, cluster):
    options = {"partition": "cpu", "time": "00:10:00", "account": "us"}
    with executors.slurm(3, options) as run:
        run([Act(tmp_path)], 2, tmp_path / "logs", lambda done: None)
        assert {(tmp_path / f"{rank}.txt").exists() for rank in range(2)} == {True}
        (asked,) = map(json.loads, cluster.read_text().splitlines())
        assert {"partition=cpu", "time=00:10:00", "account=us", "array=0-1%3", "mem-per-cpu=4G"} <= set(asked)


def test_a_failed_slurm_job_is_reported(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(executors, "POLL_SECONDS", 0.1)
    message = "SLURM's job 1 has ended and 1 tasks of it are not done"
    with executors.slurm(1, {"partition": "cpu", "time": "1"}) as run, pytest.raises(RetryableError, match=message):
        run([Act(tmp_path, "fail")], 2, tmp_path / "logs", lambda done: None)


def test_slurm_needs_its_commands_and_options(tmp_path, cluster, monkeypatch):
    with pytest.raises(UsageError, match="needs --sbatch time="), executors.slurm(1, {"partition": "cpu"}):
        pass
    with pytest.raises(UsageError, match="use whole gigabytes"):
        executors.slurm(1, {"partition": "cpu", "time": "1", "mem-per-cpu": "500M"}).__enter__()
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no sbatch here"), executors.slurm(1, {}):
        pass
