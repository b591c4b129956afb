import json
import os
import threading
from pathlib import Path

import pytest

from jaxgpt.errors import RetryableError, UsageError
from jaxgpt.prepare import slurm
from tests.prepare.test_executors import Act

ROOT = Path(__file__).parents[2]
SBATCH = """#!/usr/bin/env python3
# A SLURM of one machine: runs the tasks of the array one after another, in the background, as a queue does.
import json, os, re, subprocess, sys
options, script = sys.argv[1:-1], open(sys.argv[-1]).read()
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
        with open(os.environ["JOBS"] + ".out", "a") as out:
            subprocess.run(["bash"], input=script, text=True, env=environment, stdout=out, stderr=out)
    os.unlink(os.environ["JOBS"] + ".queued")
    os._exit(0)
open(os.environ["JOBS"] + ".queued", "w")
print("Submitted batch job 1")
"""


SQUEUE = """#!/bin/bash
# The job's number, and its name where that is asked for.
[[ -e $JOBS.queued ]] || exit 0
name=$(sed -n 's/.*"job-name=\\([^"]*\\)".*/\\1/p' $JOBS | tail -1)
[[ $* == *%j* ]] && echo "1 $name" || echo "1 cpu"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Fake SLURM commands."""
    commands = {
        "sbatch": SBATCH,
        "srun": '#!/bin/bash\nwhile [[ $1 == -* ]]; do [[ $1 == -n ]] && shift; shift; done\nexec "$@"\n',
        "squeue": SQUEUE,
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
    with slurm.job_arrays(3, options, tmp_path) as run:
        run([Act(tmp_path)], 2, tmp_path / "logs", lambda done: None)
        assert {(tmp_path / f"{rank}.txt").exists() for rank in range(2)} == {True}
        (asked,) = map(json.loads, cluster.read_text().splitlines())
        assert {"partition=cpu", "time=00:10:00", "account=us", "array=0-1%3", "mem-per-cpu=4G"} <= set(asked)


def test_a_failed_slurm_job_is_reported(tmp_path, cluster, monkeypatch):
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.1)
    message = "SLURM's job 1 has ended without 1 of its tasks"
    with (
        slurm.job_arrays(1, {"partition": "cpu", "time": "1"}, tmp_path) as run,
        pytest.raises(RetryableError, match=message),
    ):
        run([Act(tmp_path, "fail")], 2, tmp_path / "logs", lambda done: None)
    printed, logged = (tmp_path / "jobs.out").read_text(), (tmp_path / "logs/logs/task_00001.log").read_text()
    assert "KeyError in test_executors.py, line" in printed and "- KeyError\n" in logged
    assert "private" not in printed + logged


def test_a_start_waits_for_the_slurm_jobs_of_one_that_was_killed(tmp_path, cluster, monkeypatch):
    """The first start ends when it has submitted its array, whose tasks are held; jobs of another are not its own."""
    monkeypatch.setattr(slurm, "POLL_SECONDS", 0.05)
    work, other, said = tmp_path / "work", tmp_path / "other", []
    slurm.wait_for_jobs(work, lambda *line: said.append(line))  # nothing was submitted: no squeue is needed
    with slurm.job_arrays(2, {"partition": "cpu", "time": "1"}, work) as run, pytest.raises(InterruptedError):
        run([Act(tmp_path, "hold")], 2, work / "stages" / "clean", raising(InterruptedError))
    (other / "stages" / "clean" / "slurm").mkdir(parents=True)
    slurm.wait_for_jobs(other, lambda *line: said.append(line))
    assert said == []
    timer = threading.Timer(0.5, (tmp_path / "go").touch)
    timer.start()
    slurm.wait_for_jobs(work, lambda *line: said.append(line))
    timer.join()
    wait = ("waits", "until SLURM's job 1 of an earlier start has ended; scancel 1 ends it now")
    assert said == [wait] and (tmp_path / "1.txt").exists()
    with slurm.job_arrays(2, {"partition": "cpu", "time": "1"}, work) as run:
        run([Act(tmp_path)], 2, work / "stages" / "clean", lambda done: None)
    assert len(cluster.read_text().splitlines()) == 1  # no second array
    (tmp_path / "bin" / "squeue").write_text("#!/bin/bash\necho slurm_load_jobs error >&2\nexit 1\n")
    with pytest.raises(RetryableError, match="squeue can't say whether they have ended: slurm_load_jobs error"):
        slurm.wait_for_jobs(work, lambda *line: said.append(line))


def raising(error):
    def raise_it(_):
        raise error

    return raise_it


def test_slurm_needs_its_commands_and_options(tmp_path, cluster, monkeypatch):
    with pytest.raises(UsageError, match="needs --sbatch time="):
        slurm.require_slurm({"partition": "cpu"})
    with pytest.raises(UsageError, match="use whole gigabytes"):
        slurm.require_slurm({"partition": "cpu", "time": "1", "mem-per-cpu": "500M"})
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(UsageError, match="no sbatch here"):
        slurm.require_slurm({})
