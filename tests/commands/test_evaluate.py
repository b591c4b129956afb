"""`jaxgpt evaluate`: what it prints and writes, the harness's numbers, and every wrong input."""

import json
import math
import random
import signal
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, export, train
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime import device
from tests.support import golden, tasks

ITEM = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate")
    tasks.export(path / "hf")
    tasks.write(path / "tasks")
    return path


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


def test_it_measures_as_the_harness_does(folder, tmp_path, capfd):
    pytest.importorskip("lm_eval", reason=tasks.NEEDS_HARNESS)
    words = ["--choices", folder / "tasks" / "choose.jsonl", "--tasks", "choose,write", "--batch-size", 4]
    assert run(folder / "hf", *words, "--include-path", folder / "tasks", "--json", tmp_path / "out.json") == 0
    out, err = capfd.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert lines[0].startswith(f"model     {folder}/hf: 2 layers, width 32, float32, on CPU, ")
    assert lines[1].startswith(f"choices   {folder}/tasks/choose.jsonl: 8 items, ")
    assert lines[1].endswith("too long for the model's context of 64 tokens, cut from the left")
    found = json.loads((tmp_path / "out.json").read_text())
    ours, theirs = found["choices"], found["tasks"]["results"]["choose"]
    assert lines[2] == f"acc       {ours['acc']:.4f} ± {ours['acc_stderr']:.4f}"
    assert lines[3] == f"acc_norm  {ours['acc_norm']:.4f} ± {ours['acc_norm_stderr']:.4f}"
    for name in ("acc", "acc_stderr", "acc_norm", "acc_norm_stderr"):
        assert ours[name] == pytest.approx(theirs[f"{name},none"], abs=1e-12)
    assert ours["n"] == 8 and 0 < ours["cut"] < 8 and ours["acc"] != ours["acc_norm"]
    (row,) = (line for line in lines if "exact_match" in line)
    assert row.split()[1::2] == ["write", "Yaml", "0", "5", "exact_match", "0.0000", "0.0000"]
    assert found["tasks"]["configs"]["write"]["generation_kwargs"]["max_gen_toks"] == 12
    assert lines[-1] == f"saved     {tmp_path}/out.json"


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A run of 15 steps on 9 KB of text, and what transformers is given of it."""
    folder = tmp_path_factory.mktemp("trained")
    rng = random.Random(0)
    (folder / "text.txt").write_text(" ".join(tasks.words(rng, 3, 12) + "\n" for _ in range(120)), encoding="utf-8")
    words = ["--data", folder / "text.txt", "--out", folder / "run", "--steps", 15, "--lr", 0.02, "--B", 2, "--T", 32]
    words += ["--n-layer", 2, "--n-head", 2, "--n-embd", 32, "--block-size", 64]
    assert console.run(train.main, [str(word) for word in words]) == 0
    assert console.run(export.main, [str(folder / "run"), str(folder / "hf")]) == 0
    return folder


@pytest.mark.parametrize("which, T", [("random", 40), ("trained", None)])
def test_the_loss_on_a_text_is_that_of_pytorch_in_strided_windows(folder, trained, tmp_path, which, T):
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    ours, theirs = (folder / "hf", folder / "hf") if which == "random" else (trained / "run", trained / "hf")
    words = ["--data", trained / "text.txt", "--json", tmp_path / "out.json", "--batch-size", 3]
    assert run(ours, *words, *(["--T", T] if T else [])) == 0
    found, content = json.loads((tmp_path / "out.json").read_text()), (trained / "text.txt").read_bytes()

    model, ids = (
        transformers.GPT2LMHeadModel.from_pretrained(theirs).eval(),
        encoding().encode_ordinary(content.decode()),
    )
    losses, T = [], T or 64
    with torch.no_grad():
        for start in range(0, len(ids) - 1, T):
            window = torch.tensor(ids[start : start + T + 1])
            logits = model(window[None, :-1]).logits[0].double()
            losses += torch.nn.functional.cross_entropy(logits, window[1:], reduction="none").tolist()
    assert (found["tokens"], found["bytes"]) == (len(ids) - 1, len(content)) and len(losses) == len(ids) - 1
    mean = sum(losses) / len(losses)
    assert (mean > 11) == (which == "random")  # the other has learned
    assert found["loss"] == pytest.approx(mean, abs=1e-4)
    assert found["perplexity"] == pytest.approx(math.exp(mean), rel=1e-4)
    assert found["bits_per_byte"] == pytest.approx(sum(losses) / math.log(2) / len(content), abs=1e-4)
    assert found["loss_stderr"] == pytest.approx(np.std(losses, ddof=1) / math.sqrt(len(losses)), abs=1e-4)


def test_of_examples_the_completions_are_measured(trained, tmp_path, capsys):
    """As brute force: each completion after its own prompt, alone."""
    records = [{"prompt": f"the sky {n}", "completion": f" is blue {n} ?"} for n in range(7)]
    (tmp_path / "pairs.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    assert run(trained / "run", "--data", tmp_path / "pairs.jsonl", "--json", tmp_path / "out.json") == 0
    model, losses = load(resolve_weights(trained / "run")), []
    for record in records:
        prompt, rest = (encoding().encode_ordinary(record[name]) for name in ("prompt", "completion"))
        ids = np.array([[*prompt, *rest, encoding().eot_token]])
        logp = jax.nn.log_softmax(model(ids[:, :-1])[0])
        losses += [-float(logp[t, ids[0, t + 1]]) for t in range(len(prompt) - 1, ids.shape[1] - 1)]
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["loss"] == pytest.approx(np.mean(losses), rel=1e-5) and found["tokens"] == len(losses)
    assert found["bytes"] == sum(len(record["completion"]) for record in records)
    assert "pairs.jsonl: 7 examples of completions, in " in capsys.readouterr().out


def test_only_the_first_items_and_no_number_where_there_is_none(folder, tmp_path, capsys):
    words = [
        "--choices",
        folder / "tasks" / "choose.jsonl",
        "--limit",
        1,
        "--batch-size",
        4,
        "--json",
        tmp_path / "out.json",
    ]
    assert run(folder / "hf", *words) == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["choices"]["n"] == 1 and found["choices"]["acc_stderr"] is None
    assert "1 item" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, code, message",
    [
        ([], 2, "nothing to measure: give --data, --choices, --canaries or --tasks"),
        (["--choices", "nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["--data", "nowhere.txt"], 3, "nowhere.txt: no such file"),
        (["--data", "shakespeare", "--T", "65"], 2, "--T 65 is above the model's context of 64 tokens"),
        (["--data", "shakespeare", "--text-field", "a b"], 2, "--text-field 'a b': shakespeare is not an example file"),
        (
            ["--choices", "ITEMS", "--text-field", "a"],
            2,
            "--text-field a: they are names in a file of examples; name i",
        ),
        (["--choices", "ITEMS", "--limit", "0"], 2, "--limit 0 is out of range"),
        (["--choices", "ITEMS", "--batch-size", "0"], 2, "--batch-size 0 is out of range"),
        (["--tasks", "a", "--num-fewshot", "-1"], 2, "--num-fewshot -1 is out of range"),
        (["--choices", "ITEMS", "--num-fewshot", "1"], 2, "--num-fewshot changes nothing without --tasks; leave it"),
        (["--data", "x", "--limit", "1"], 2, "--limit changes nothing without --choices or --tasks; leave it out"),
        (["--choices", "ITEMS", "--T", "1"], 2, "--T changes nothing without --data; leave it out"),
        (["--tasks", "a,,b"], 2, "--tasks 'a,,b': a name is empty"),
        (["--tasks", ""], 2, "--tasks '': a name is empty"),
        (["--tasks", "a", "--include-path", "nowhere"], 2, "--include-path nowhere: no such folder"),
        (["--choices", "ITEMS", "--json", "nowhere/out.json"], 2, "--json nowhere/out.json: No such"),
        (["--choices", "ITEMS", "--json", "/"], 2, "--json /: Is a directory"),
        (["--choices", "ITEMS", "--device", "gpu"], 2, "--device gpu: no usable NVIDIA GPU"),
    ],
    ids=lambda value: " ".join(value)[:40] if isinstance(value, list) else "",
)
def test_a_wrong_flag_is_one_line(folder, tmp_path, words, code, message, capsys, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    items = tmp_path / "items.jsonl"
    items.write_text(json.dumps(ITEM) + "\n")
    assert run(folder / "hf", *(str(items) if word == "ITEMS" else word for word in words)) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message in err


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


def test_many_labels_are_no_table(capsys):
    evaluate.print_confusion(np.eye(21, dtype=int).tolist(), [str(n) for n in range(21)])
    assert capsys.readouterr().out == "confusion the table of 21 labels is too wide for a page; --json has it\n"
