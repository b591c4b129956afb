"""What the harness says, beside our own multiple choice."""

import json

import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate
from tests.support import tasks


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
