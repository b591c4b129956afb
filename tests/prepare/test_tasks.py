import sys

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.prepare.tasks import RunCommands, open_executor, require_executor


def test_commands_are_tasks(tmp_path):
    (lock := tmp_path / "workers").touch()
    commands = [[sys.executable, "-c", f"print({n}); exit({n})"] for n in range(3)]
    outputs, counted = [tmp_path / f"{n}.txt" for n in range(3)], []
    with open_executor("local", 1, (), tmp_path) as run:
        run([RunCommands(commands, outputs, lock)], 3, tmp_path / "stages" / "x", counted.append)
    assert [output.read_text() for output in outputs] == ["0\n", "1\n", "2\n"] and sum(counted) == 3


def test_slurm_is_asked_for_what_it_needs(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: "/bin/sbatch")
    with pytest.raises(UsageError, match="--executor slurm needs --sbatch time"):
        require_executor("slurm", ("partition=gpu",))
    require_executor("slurm", ("partition=gpu", "time=1:00"))
    require_executor("local", ())
