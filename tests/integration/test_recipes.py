"""The commands of docs/recipes, on little data and for few steps."""

import os
import re
import shlex
import subprocess
import sys

import pytest

from benchmarks.recipes.__main__ import ROOT, SIZES, read_commands
from tests.inference.test_answer_metrics import NEEDS_METRICS
from tests.support.commands import run_command

TINY = {"--steps": 2, "--n-layer": 1, "--n-head": 2, "--n-embd": 16, "--eval-every": 1, "--max-new-tokens": 4}


def run_shell(command):
    line = re.sub(r"^python ", f"{shlex.quote(sys.executable)} ", command)
    line += " --train 300 --val 3" * command.startswith("python -m benchmarks.recipes data ")
    subprocess.run(line, shell=True, check=True, env=os.environ | {"PYTHONPATH": str(ROOT)})


def run_in_process(command):
    _, *words = shlex.split(command)
    if "--epochs" in words:
        words[words.index("--epochs")] = "--steps"
    for before, number in enumerate(words[1:]):
        if words[before] in TINY:
            assert float(number) >= TINY[words[before]]
            words[before + 1] = str(TINY[words[before]])
    ended = run_command([*words, *["--device", "cpu"] * (words[0] != "tokenizer")])
    assert (ended.code, ended.problem) == (0, ""), (command, ended)


def test_each_task_has_a_page():
    assert {page.stem for page in (ROOT / "docs" / "recipes").glob("*.md")} == SIZES.keys()


@pytest.mark.slow
@pytest.mark.parametrize("task", SIZES)
def test_the_commands_of_a_page_run(task, tmp_path, monkeypatch):
    for library in ("rouge_score", "sacrebleu"):
        pytest.importorskip(library, reason=NEEDS_METRICS)
    monkeypatch.chdir(tmp_path)
    commands = read_commands(task)
    for command in commands:
        (run_in_process if command.startswith("jaxgpt ") else run_shell)(command)
    assert {"data", "runs"} <= {path.name for path in tmp_path.iterdir()} and len(commands) >= 4
