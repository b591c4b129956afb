"""`jaxgpt glue` on a few rows of the published files: it measures as `evaluate`, and predicts as `predict` does."""

import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest

from jaxgpt import commands, console
from jaxgpt.commands import sweep, train
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.models.configs import BertConfig, GPT2Config
from jaxgpt.runs.huggingface import save_hf
from tests.support import glue_files
from tests.support.glue_rules import check_predictions
from tests.support.models import random_model

pytest.importorskip("sklearn", reason="pip install -r requirements-metrics.txt")
FLAGS = ["--device", "cpu", "--flags", "T=16", "B=2", "steps=2", "lr=1e-2", "dropout=0"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """The benchmarks' files, and a decoder and an encoder."""
    folder = tmp_path_factory.mktemp("glue")
    glue_files.write(folder / "glue", glue_files.GLUE)
    glue_files.write(folder / "superglue", glue_files.SUPERGLUE)
    shape = {"block_size": 16, "n_layer": 1, "n_head": 2, "n_embd": 8}
    tokenizer = ByteTokenizer()
    decoder = random_model(GPT2Config(vocab_size=tokenizer.vocab_size, **shape))
    save_hf(decoder, folder / "gpt2", (), tokenizer.hugging_face_files(16, None, None), tokenizer)
    tokenizer = for_encoder(tokenizer)
    encoder = random_model(BertConfig(vocab_size=tokenizer.vocab_size, **shape))
    save_hf(encoder, folder / "bert", (), tokenizer.hugging_face_files(16, None, None), tokenizer)
    return folder


@pytest.fixture
def in_this_process(monkeypatch):
    """Runs in this process, whose programs they share; returns the list of their folders' names, and which to skip."""
    begun, left_out = [], set()

    def train_here(commands, outputs, lock, workers, done):
        for words, output in zip(commands, outputs, strict=True):
            name = words[-1].rpartition("/")[2]
            if name in left_out:
                output.write_text("error: full disk\n")
            else:
                begun.append(name)
                assert console.run(train.main, words[4:]) == 0

    monkeypatch.setattr(sweep, "train_here", train_here)
    return begun, left_out


def run(*words):
    return console.run(commands.main, [str(word) for word in words])


def results(out):
    metrics = json.loads((out / "results.json").read_text())["metrics"]
    return {(line["set"], line["metric"]): line for line in metrics}


@pytest.mark.slow
def test_a_decoder_learns_labels_and_numbers(folder, in_this_process, tmp_path, capsys):
    begun, left_out = in_this_process
    out, words = tmp_path / "out", ["--init-from", folder / "gpt2", "--tasks", "STS-B", "MNLI", "--seeds", 2]
    left_out.add("MNLI-seed=1")
    assert run("glue", folder / "glue", *words, "--out", out, *FLAGS) == 75
    captured = capsys.readouterr()
    assert "MNLI-seed=1 not done; " in captured.err and "note: MNLI-seed=1: error: full disk" in captured.err
    assert results(out)["MNLI-m", "accuracy"]["seeds"] == 1
    left_out.clear()
    kept = (out / "outputs" / "STS-B-seed=0-STS-B-dev.npy").stat().st_mtime_ns
    assert run("glue", folder / "glue", *words, "--out", out, *FLAGS) == 0
    assert begun == ["STS-B-seed=0", "STS-B-seed=1", "MNLI-seed=0", "MNLI-seed=1"]  # each once
    assert (out / "outputs" / "STS-B-seed=0-STS-B-dev.npy").stat().st_mtime_ns == kept
    found, printed = results(out), capsys.readouterr().out
    for name, task, metrics in (("STS-B", "STS-B", ["pearson", "spearman"]), ("MNLI-mm", "MNLI", ["accuracy"])):
        report, data = tmp_path / f"{name}.json", out / "data" / task / f"{name}-dev.jsonl"
        assert run("evaluate", out / f"{task}-seed=1", "--data", data, "--json", report) == 0
        for metric in metrics:
            expected = 100 * json.loads(report.read_text())[metric]
            assert found[name, metric]["values"]["1"] == pytest.approx(expected, abs=0.1)  # of larger batches
    # The mean of a task's metrics and sets first, then that of the tasks; the standard error over seeds.
    parts = [[("STS-B", "pearson"), ("STS-B", "spearman")], [("MNLI-m", "accuracy"), ("MNLI-mm", "accuracy")]]
    by_seed = [np.mean([[found[each]["values"][seed] for each in part] for part in parts]) for seed in "01"]
    (average,) = json.loads((out / "results.json").read_text())["averages"]
    assert average["mean"] == pytest.approx(np.mean(by_seed))
    assert average["stderr"] == pytest.approx(abs(by_seed[0] - by_seed[1]) / 2)
    assert f"average   glue, 2 tasks of 9: {average['mean']:.1f} ± {average['stderr']:.1f}" in printed
    assert (out / "table.md").read_text() in printed
    for name, task, file in (
        ("STS-B", "STS-B", "test.tsv"),
        ("MNLI-m", "MNLI", "test_matched.tsv"),
        ("MNLI-mm", "MNLI", "test_mismatched.tsv"),
        ("AX", "diagnostic", "diagnostic.tsv"),
    ):
        content = (out / "predictions" / f"{name}.tsv").read_text()
        check_predictions(name, "glue", content, folder / "glue" / task / file)
        best = max("01", key=lambda seed: np.mean([found[each]["values"][seed] for each in parts[task != "STS-B"]]))
        run_folder = out / f"{'STS-B' if task == 'STS-B' else 'MNLI'}-seed={best}"
        if name not in ("STS-B", "MNLI-m"):
            continue
        capsys.readouterr()
        assert run("predict", run_folder, "--data", out / "data" / run_folder.name[:-7] / f"{name}-test.jsonl") == 0
        predicted = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
        written = [line.split("\t")[1] for line in content.splitlines()[1:]]
        assert written == [each["label"] if "label" in each else f"{each['score']:.4f}" for each in predicted]
    # What was trained by other flags, or measured by another run, is no result.
    assert run("glue", folder / "glue", *words, "--out", out, *FLAGS, "epochs=3") == 2
    assert run("glue", folder / "glue", *words, "--out", out, *FLAGS, "lr=1e-3") == 3
    assert "STS-B-seed=0 is a run of another configuration: lr 0.01 there and 0.001 here" in capsys.readouterr().err


@pytest.mark.slow
def test_an_encoder_chooses_and_learns_a_table_of_your_own(folder, in_this_process, tmp_path):
    begun, _ = in_this_process
    table = tmp_path / "mine.toml"
    table.write_text(
        '[superglue.mail]\ntrain = "a.csv"\ndev = "a.csv"\ntexts = ["{subject}"]\nlabel = "spam"\n'
        'range = [0, 1]\nmetrics = ["spearman"]\n'
    )
    source = shutil.copytree(folder / "superglue", tmp_path / "data")
    (source / "mail").mkdir()
    (source / "mail" / "a.csv").write_text('subject,spam\n"Hi, you",0\nWin!,0.9\nWin now,1\n')
    names = ["COPA", "mail"]
    words = ["--init-from", folder / "bert", "--tasks", *names, "--seeds", 1, "--table", table]
    assert run("glue", source, *words, "--out", tmp_path / "out", *FLAGS) == 0
    assert begun == [f"{name}-seed=0" for name in names]
    found = results(tmp_path / "out")
    assert {name for name, _ in found} == {*names}
    assert all(math.isfinite(line["mean"]) and line["stderr"] is None for line in found.values())
    assert [path.name for path in (tmp_path / "out" / "predictions").iterdir()] == ["COPA.jsonl"]
    content = (tmp_path / "out" / "predictions" / "COPA.jsonl").read_text()
    check_predictions("COPA", "superglue", content, source / "COPA" / "test.jsonl")


@pytest.mark.parametrize(
    ("words", "code", "error"),
    [
        (["nowhere"], 2, "nowhere/TASK: no train.tsv there; give the folder with the benchmark's files"),
        (["glue", "--tasks", "cola"], 2, "--tasks cola: no such task; there are BoolQ, "),
        (["glue", "--flags", "lr"], 2, "--flags lr: use NAME=VALUE, such as lr=3e-5"),
        (["glue", "--flags", "out=x"], 2, "--flags out=x: jaxgpt glue sets it itself; leave it out"),
        (["glue", "--flags", "lrr=1"], 2, "glue, CoLA-seed=0: --lrr: no such flag; did you mean --lr"),
        (["glue"], 2, "glue, CoLA-seed=0: --T 64 is above the model's longest context: use --T 16"),
        (["glue", "--seeds", "0"], 2, "--seeds 0 is out of range: it must be from 1 to 100"),
        (["glue", "--out", "glue"], 2, "glue: there are files in it already; choose a new folder"),
        (["glue", "--table", "no.toml"], 3, "no.toml: no such file"),
        (["glue", "--init-from", "no"], 4, "no: no such folder; weights have the name"),
        (["wrong", "--flags", "T=16"], 3, "wrong/CoLA/train.tsv, line 2: 1 fields, and every row needs 4; mend it"),
    ],
)
def test_what_is_wrong_is_one_line(folder, tmp_path, monkeypatch, capsys, words, code, error):
    monkeypatch.chdir(tmp_path)
    Path("glue").symlink_to(folder / "glue")
    glue_files.write(Path("wrong"), {"CoLA/train.tsv": "gj04\t1\t\tFine.\nmore\n"})
    words = words if "--init-from" in words else [*words, "--init-from", folder / "gpt2"]
    words = words if "--out" in words else [*words, "--out", "out"]
    before = sorted(tmp_path.rglob("*"))
    assert run("glue", *words) == code
    assert sorted(tmp_path.rglob("*")) == before
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("error: ")]
    assert error in line
