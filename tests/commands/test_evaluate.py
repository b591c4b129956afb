"""`jaxgpt evaluate`: what is refused before JAX is imported, and an interruption."""

import json
import signal
import subprocess
import sys

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from tests.support import tasks

ITEM = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate")
    tasks.export(path / "hf")
    tasks.write(path / "tasks")
    return path


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def test_what_cant_be_measured_is_refused_before_jax_is_imported(folder, tmp_path):
    (tmp_path / "items.jsonl").write_text(json.dumps(ITEM) + '\n{"context": "x"}\n')
    config = json.loads((folder / "hf" / "config.json").read_text())
    (tmp_path / "wide").mkdir()
    (tmp_path / "wide" / "config.json").write_text(json.dumps(config | {"vocab_size": 50260}))
    items = str(tmp_path / "items.jsonl")
    commands = [[str(folder / "hf"), "--choices", items], [str(tmp_path / "wide"), "--choices", items]]
    code = "import sys; from jaxgpt import console; from jaxgpt.commands import evaluate\n"
    code += f"codes = [console.run(evaluate.main, words) for words in {commands!r}]\n"
    code += "print(codes, sorted({'jax', 'lm_eval', 'numpy.ma'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[3, 4] []\n"
    first, second = done.stderr.splitlines()
    assert "items.jsonl, line 2: no choices, answer" in first
    assert "50,260 token ids, and GPT-2's tokenizer has 50,257" in second


def test_ctrl_c_is_one_line(folder, tmp_path):
    """While it scores: so many items that it can't be done."""
    (tmp_path / "items.jsonl").write_text((json.dumps(ITEM) + "\n") * 50_000)
    command = [sys.executable, "-m", "jaxgpt", "evaluate", str(folder / "hf"), "--batch-size", "4"]
    command += ["--choices", str(tmp_path / "items.jsonl")]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    # What a shell starts behind & ignores SIGINT, and so would its children.
    listen = "import os, signal, sys; signal.signal(signal.SIGINT, signal.SIG_DFL); os.execv(sys.argv[1], sys.argv[1:])"
    with subprocess.Popen([sys.executable, "-c", listen, *command], **pipes) as process:
        try:
            assert process.stdout.readline().startswith("model ") and process.stdout.readline().startswith("choices ")
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=60)
        finally:
            process.kill()
    assert (process.returncode, err) == (130, "error: interrupted\n")
