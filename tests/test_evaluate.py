"""`python -m jaxgpt.evaluate`: what it prints and writes, that it is the harness's number, and every wrong input."""

import json
import signal
import subprocess
import sys

import pytest
import tasks

from jaxgpt import cli, device, evaluate

ITEM = {"context": "The sky is", "choices": ["blue.", "a fish."], "answer": 0}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("evaluate")
    tasks.export(path / "hf")
    tasks.write(path / "tasks")
    return path


def run(*words):
    return cli.run(evaluate.main, [str(word) for word in words])


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
    assert "1 items" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, code, message",
    [
        ([], 2, "nothing to measure: give --choices or --tasks"),
        (["--choices", "nowhere.jsonl"], 3, "nowhere.jsonl: no such file"),
        (["--choices", "ITEMS", "--limit", "0"], 2, "--limit 0 is out of range"),
        (["--choices", "ITEMS", "--batch-size", "0"], 2, "--batch-size 0 is out of range"),
        (["--tasks", "a", "--num-fewshot", "-1"], 2, "--num-fewshot -1 is out of range"),
        (["--tasks", "a,,b"], 2, "--tasks 'a,,b': a name is empty"),
        (["--tasks", ""], 2, "--tasks '': a name is empty"),
        (["--tasks", "a", "--include-path", "nowhere"], 2, "--include-path nowhere: no such folder"),
        (["--choices", "ITEMS", "--json", "nowhere/out.json"], 2, "--json nowhere/out.json: can't be written: No such"),
        (["--choices", "ITEMS", "--json", "/"], 2, "--json /: can't be written: Is a directory"),
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
    code = "import sys; from jaxgpt import cli, evaluate\n"
    code += f"codes = [cli.run(evaluate.main, words) for words in {commands!r}]\n"
    code += "print(codes, sorted({'jax', 'lm_eval', 'numpy.ma'} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "[3, 4] []\n"
    first, second = done.stderr.splitlines()
    assert "items.jsonl, line 2: no choices, answer" in first
    assert "50,260 token ids, and GPT-2's tokenizer has 50,257" in second


def test_the_output_file_is_tried_and_left_as_it_was(tmp_path):
    evaluate.require_writable(tmp_path / "new.json")
    assert not (tmp_path / "new.json").exists()
    (tmp_path / "old.json").write_text("kept")
    evaluate.require_writable(tmp_path / "old.json")
    assert (tmp_path / "old.json").read_text() == "kept"


def test_ctrl_c_is_one_line(folder, tmp_path):
    """While it scores: so many items that it can't be done."""
    (tmp_path / "items.jsonl").write_text((json.dumps(ITEM) + "\n") * 50_000)
    command = [sys.executable, "-m", "jaxgpt.evaluate", str(folder / "hf"), "--batch-size", "4"]
    command += ["--choices", str(tmp_path / "items.jsonl")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline().startswith("model ") and process.stdout.readline().startswith("choices ")
        process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (130, "error: interrupted\n")
