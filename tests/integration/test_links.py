"""A short form of tests/support/links.py, in this process."""

import contextlib

import pytest

from jaxgpt.runtime import device
from tests.support import links

TRIED = [
    ("text", "config.json", "itself", f"{links.TRAIN} --steps 4"),
    ("text", "log.jsonl", "itself", f"{links.TRAIN} --steps 4 --fresh"),
    ("text", "checkpoints", "itself", f"{links.TRAIN} --steps 4 --fresh"),
    ("text", "checkpoints/4.orbax-checkpoint-tmp", "folder", f"{links.TRAIN} --steps 4"),
    ("text", ".lock", "itself", "verify x"),
    ("half", "dropped.jsonl", "file", f"{links.PREPARE} x"),
    ("half", "work/workers", "itself", f"{links.PREPARE} x"),
]


@pytest.mark.slow
def test_no_command_writes_through_a_link(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    with contextlib.chdir(tmp_path):
        links.fill(tmp_path, ["text", "half"])
        assert [problem for each in TRIED if (problem := links.attack(*each))] == []
