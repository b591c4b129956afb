"""`jaxgpt train --recipe classify`, then `evaluate` and `predict`: their numbers are the logits'; every wrong input."""

import dataclasses
import json
import math
import shlex
import shutil
import subprocess
import sys

import jax
import numpy as np
import pytest

from jaxgpt import commands, console
from jaxgpt.data.examples import epoch_order
from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load, save_hf
from jaxgpt.runs.weights import resolve_weights
from tests.support import golden
from tests.support.models import new_model

CONFIG = GPT2Config(block_size=32, n_layer=2, n_head=2, n_embd=32)
FLAGS = ["--B", 8, "--T", 12, "--lr", "3e-3", "--schedule", "constant", "--warmup-ratio", 0]
WORDS = {"bad": ["awful", "poor", "the", "film"], "good": ["fine", "nice", "the", "film"], "odd [b]": ["film", "so"]}


def run(*words):
    return console.run(commands.main, [str(word) for word in words])


def learn(*words):
    return run("train", "--recipe", "classify", *words)


def write(path, records):
    path.write_text("".join(json.dumps(record) + "\n" for record in records))
    return path


def texts(n, labels, seed=0):
    generator = np.random.default_rng(seed)
    drawn = [labels[k] for k in generator.integers(0, len(labels), n)]
    return [{"text": " ".join(generator.choice(WORDS[label], 1 + k % 9)), "label": label} for k, label in
            enumerate(drawn)]  # fmt: skip


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Weights, examples of two labels, a run on them of 2 epochs; and one layer with adapters on three labels."""
    folder = tmp_path_factory.mktemp("classify")
    for name, config in (("hf", CONFIG), ("hf1", dataclasses.replace(CONFIG, n_layer=1))):
        save_hf(new_model(config, jax.random.key(0)), folder / name)
    records = texts(30, ["bad", "good"])
    write(folder / "two.jsonl", records)
    write(folder / "held.jsonl", [records[n] for n in sorted(epoch_order(30, seed=0, epoch=0)[:6])])  # as --val draws
    write(folder / "three.jsonl", texts(24, list(WORDS), seed=1))
    words = ["--init-from", folder / "hf", "--data", folder / "two.jsonl", "--val", 0.2, "--out", folder / "run"]
    assert learn(*words, *FLAGS, "--epochs", 2) == 0
    words = ["--init-from", folder / "hf1", "--data", folder / "three.jsonl", "--out", folder / "lora"]
    words += ["--lora", 2, "--lora-on", "attn.c_attn,mlp.c_fc", "--dropout", 0]
    assert learn(*words, *FLAGS, "--epochs", 1) == 0
    return folder


@pytest.fixture(scope="module")
def exported(folder, tmp_path_factory):
    """The folder that `jaxgpt export` makes of the run with adapters."""
    out = tmp_path_factory.mktemp("exported") / "hf"
    assert run("export", folder / "lora", out) == 0
    return out


def rows(out):
    return [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]


def by_hand(out, records, T=12):
    """The logits of texts, one after the other, from the layers of the model and the kernel of its head."""
    model = load(resolve_weights(out))
    hidden, kernel = jax.jit(lambda model, x: model.hidden(x)), np.asarray(model.score.kernel[...], np.float64)
    found = []
    for record in records:
        ids = [*encoding().encode(record["text"])[: T - 1], 50256]
        x = np.full((1, T), 7, np.int32)  # what comes after the last token does not matter
        x[0, : len(ids)] = ids
        found.append(np.asarray(hidden(model, x)[0, len(ids) - 1], np.float64) @ kernel)
    return np.array(found)


# ---- Training


def test_the_command_that_goes_on_goes_on(folder, tmp_path, capsys):
    words = ["--init-from", folder / "hf", "--data", folder / "two.jsonl", "--val", 0.2, "--out", tmp_path / "out"]
    words += FLAGS
    assert learn(*words, "--epochs", 1) == 0
    (said,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("resume"))
    assert run(*shlex.split(said)[4:]) == 0
    out = capsys.readouterr().out
    assert "resumes from step 3, position 288, to 6 steps\n" in out
    assert f"predict   python -m jaxgpt predict {tmp_path}/out --data {folder}/two.jsonl\n" in out
    at_once = rows(folder / "run")
    assert [(row["loss"], row["grad_norm"]) for row in rows(tmp_path / "out")] == [
        (row["loss"], row["grad_norm"]) for row in at_once
    ]
    assert learn(*words, "--epochs", 2) == 0  # and so does the first command
    assert "already has 6 steps, of 6 that were asked for" in capsys.readouterr().out


# ---- Measuring


@pytest.mark.parametrize("name", ["run", "lora"])
def test_the_numbers_are_those_of_the_logits(folder, name, tmp_path, capsys):
    records = texts(20, list(WORDS)[: 2 if name == "run" else 3], seed=5)
    labels = sorted({record["label"] for record in records})
    data = write(tmp_path / "data.jsonl", records)
    words = ["evaluate", folder / name, "--data", data, "--json", tmp_path / "out.json", "--batch-size", 6]
    assert run(*words) == 0
    out, err = capsys.readouterr()
    found = json.loads((tmp_path / "out.json").read_text())
    logits = by_hand(folder / name, records)
    assert np.ptp(logits) > 0.05
    predicted, truth = logits.argmax(-1).tolist(), [labels.index(record["label"]) for record in records]
    pairs = list(zip(truth, predicted, strict=True))
    n = len(labels)
    assert list(found) == ["model", "accuracy", "accuracy_stderr", "f1", "mcc", "n", "loss", "labels", "confusion"]
    assert found["confusion"] == [[pairs.count((t, p)) for p in range(n)] for t in range(n)]
    assert (found["labels"], found["n"]) == (labels, 20)
    assert found["accuracy"] == sum(t == p for t, p in pairs) / 20
    assert found["accuracy_stderr"] == pytest.approx(np.std([t == p for t, p in pairs], ddof=1) / math.sqrt(20))
    losses = [math.log(sum(math.exp(z - row[t]) for z in row)) for row, t in zip(logits, truth, strict=True)]
    assert found["loss"] == pytest.approx(np.mean(losses), abs=1e-5)
    assert f"accuracy  {found['accuracy']:.4f} ± {found['accuracy_stderr']:.4f} of 20\n" in out
    assert f"F1        {found['f1']:.4f}, " + ("of 'good'" if n == 2 else "the mean over the labels (macro)") in out
    assert f"MCC       {found['mcc']:.4f}, " in out and f"saved     {tmp_path}/out.json\n" in out
    drawn = [line.replace("│", " ").split() for line in out.splitlines() if line.startswith("│")]
    assert [line[-n:] for line in drawn] == [[str(count) for count in row] for row in found["confusion"]]
    assert [" ".join(line[:-n]) for line in drawn] == labels  # "[b]" is no markup
    layers = "2 layers" if name == "run" else "1 layer"
    assert out.startswith(f"model     {folder / name}: {layers}, width 32, float32, on CPU") and err == ""
    assert run(*words) == 2 and json.loads((tmp_path / "out.json").read_text()) == found  # it is never overwritten
    assert f"error: --json {tmp_path}/out.json: exists already; choose another file\n" == capsys.readouterr().err


def test_they_are_the_held_out_numbers_of_training(folder, tmp_path):
    at_end = rows(folder / "run")[-1]
    assert run("evaluate", folder / "run", "--data", folder / "held.jsonl", "--json", tmp_path / "out.json") == 0
    found = json.loads((tmp_path / "out.json").read_text())
    assert found["loss"] == pytest.approx(at_end["val_loss"], abs=1e-5)
    assert (found["accuracy"], found["n"]) == (at_end["val_accuracy"], at_end["val_n"])
    before = write(tmp_path / "out.json", [])
    newest = folder / "run" / "checkpoints" / "6"
    assert run("evaluate", newest, "--data", folder / "held.jsonl", "--json", before) == 0
    assert json.loads(before.read_text()) == found | {"model": str(newest)}


# ---- Predicting


def test_predictions_come_in_the_order_of_the_file(folder, tmp_path, capsys):
    records = [{"text": text} for text in ("awful poor", "fine nice", "the film " * 30, "nice")]
    data = write(tmp_path / "texts.jsonl", records)
    words = ["predict", folder / "run", "--data", data, "--batch-size", 3]
    assert run(*words) == 0
    out, err = capsys.readouterr()
    found = [json.loads(line) for line in out.splitlines()]
    logits = by_hand(folder / "run", records)
    p = np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)
    assert [list(each["probabilities"]) for each in found] == [["bad", "good"]] * 4
    np.testing.assert_allclose([list(each["probabilities"].values()) for each in found], p, atol=1e-5)
    assert [each["label"] for each in found] == [["bad", "good"][k] for k in p.argmax(-1)]
    assert err.splitlines()[1:] == [f"note: {data}: 1 text cut at the end, to 12 tokens"]
    labelled = write(tmp_path / "labelled.jsonl", [record | {"label": "never seen"} for record in records])
    words = ["predict", folder / "run", "--data", labelled, "--batch-size", 3, "--out", tmp_path / "out.jsonl"]
    assert run(*words) == 0
    assert (tmp_path / "out.jsonl").read_text() == out and capsys.readouterr().out == ""
    assert run(*words) == 2 and (tmp_path / "out.jsonl").read_text() == out
    assert f"error: --out {tmp_path}/out.jsonl: exists already; choose another file\n" == capsys.readouterr().err


# ---- For transformers


PAIRS = [("so so " * 6, "film"), ("film", "so so " * 6), ("nice film " * 5, "awful film " * 5), ("the", "film")]


def predictions(folder, records, tmp_path):
    """What `jaxgpt predict` says of single texts or pairs: labels, and probabilities by label."""
    out = tmp_path / "predicted.jsonl"
    out.unlink(missing_ok=True)
    assert run("predict", folder, "--data", write(tmp_path / "asked.jsonl", records), "--out", out) == 0
    return [json.loads(line) for line in out.read_text().splitlines()]


@pytest.mark.parametrize("options", [{}, {"batch_size": 3}], ids=str)
def test_a_pipeline_of_transformers_predicts_what_predict_does(folder, exported, options, tmp_path):
    """Texts that are too long, end in the padding's spelling or in a literal <|endoftext|>, and pairs."""
    pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    texts = ["so!!", "awful film", "the film " * 30, "fine<|endoftext|>", "<|endoftext|>", "nice \u00ff", "odd", "!!!"]
    expected = predictions(folder / "lora", [{"text": text} for text in texts], tmp_path)
    expected += predictions(folder / "lora", [{"text_a": a, "text_b": b} for a, b in PAIRS], tmp_path)
    classify = transformers.pipeline("text-classification", str(exported), truncation=True, device="cpu", top_k=None)
    found = classify([*texts, *({"text": a, "text_pair": b} for a, b in PAIRS)], **options)
    for ours, theirs in zip(expected, found, strict=True):
        assert ours["label"] == theirs[0]["label"]
        assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in theirs} == ours["probabilities"]
    assert len({json.dumps(each) for each in expected}) == len(expected)  # no two are alike


# ---- Folders in Hugging Face's layout


def test_an_exported_folder_is_measured_and_predicts_as_its_run(folder, exported, tmp_path):
    records = [*texts(9, list(WORDS), seed=7), {"text": "the film " * 9, "label": "bad"}]
    assert predictions(exported, records, tmp_path) == predictions(folder / "lora", records, tmp_path)
    results = []
    for number, model in enumerate((exported, folder / "lora")):
        words = ["--data", write(tmp_path / "data.jsonl", records), "--json", tmp_path / f"{number}.json"]
        assert run("evaluate", model, *words) == 0
        results.append(json.loads((tmp_path / f"{number}.json").read_text()))
        assert results[-1].pop("model") == str(model)
    assert results[0] == results[1]


@pytest.mark.parametrize("add_eos", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_folder_that_transformers_wrote_predicts_as_there(add_eos, tmp_path):
    """Its tokenizer inserts nothing, or <|endoftext|> behind each text."""
    torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    for name, content in GPT2_TOKENIZER.hugging_face_files(20).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path, add_eos_token=add_eos, padding_side="right")
    names = {0: "no", 1: "yes", 2: "maybe"}
    torch.manual_seed(0)
    config = transformers.GPT2Config(
        n_positions=32, n_layer=1, n_head=2, n_embd=32, initializer_range=0.3, id2label=names, pad_token_id=0
    )
    transformers.GPT2ForSequenceClassification(config).save_pretrained(tmp_path / "theirs")
    tokenizer.save_pretrained(tmp_path / "theirs")
    asked = ["so!!", "awful film", "the film " * 30, "odd"]
    found = predictions(tmp_path / "theirs", [{"text": text} for text in asked], tmp_path)
    found += predictions(tmp_path / "theirs", [{"text_a": a, "text_b": b} for a, b in PAIRS], tmp_path)
    classify = transformers.pipeline("text-classification", str(tmp_path / "theirs"), truncation=True, top_k=None)
    expected = classify([*asked, *({"text": a, "text_pair": b} for a, b in PAIRS)])
    for ours, theirs in zip(found, expected, strict=True):
        assert {each["label"]: pytest.approx(each["score"], abs=1e-5) for each in theirs} == ours["probabilities"]
        assert ours["label"] == theirs[0]["label"]


@pytest.mark.parametrize(
    "data, lora",
    [
        ("three", 0),
        pytest.param("three", 2, marks=pytest.mark.slow),
        pytest.param("two", 0, marks=pytest.mark.slow),
    ],
)
def test_a_run_keeps_the_head_of_weights_with_its_labels(folder, exported, data, lora, tmp_path, capsys):
    """A step of size 0 leaves all as it was; the head's columns follow the labels, and other labels get a new head."""
    weights = tmp_path / "weights"
    shutil.copytree(exported, weights)
    config = json.loads((weights / "config.json").read_text())
    order = ["odd [b]", "bad", "good"]  # not sorted
    (weights / "config.json").write_text(json.dumps(config | {"id2label": dict(enumerate(order))}))
    words = ["--init-from", weights, "--data", folder / f"{data}.jsonl", "--out", tmp_path / "out", "--lora", lora]
    assert learn(*words, *FLAGS, "--steps", 1, "--lr", "1e-30") == 0
    head, theirs = (np.asarray(load(resolve_weights(out)).score.kernel[...]) for out in (tmp_path / "out", weights))
    if data == "three":
        np.testing.assert_array_equal(head, theirs[:, [1, 2, 0]])
        kept = "is the weights' own"
    else:
        assert head.shape == (32, 2) and not np.isclose(head[:, :1], theirs).any()
        kept = "is new: the weights have other labels"
    assert f"note      the head for labels {kept}\n" in capsys.readouterr().out


# ---- Wrong input


@pytest.mark.parametrize("suffix", ["jsonl", "csv"])
def test_a_wrong_row_is_named_and_the_others_are_predicted(folder, suffix, tmp_path, capsys):
    rows = {
        "jsonl": ['{"text": "fine"}', '{"text": ""}', "", "no JSON", '{"text": 3}', '{"text": "poor"}', '{"a": "b"}'],
        "csv": ["text,n", "fine,1", " ,2", "awful", "", '"a', 'b",3'],
    }[suffix]
    data = tmp_path / f"data.{suffix}"
    data.write_text("\n".join(rows) + "\n")
    wrong = {
        "jsonl": {2: "'text' is empty", 4: "not JSON", 5: "'text' is of type int", 7: "its fields are"},
        "csv": {3: "'text' is empty", 4: "1 fields"},
    }[suffix]
    assert run("predict", folder / "run", "--data", data, "--out", tmp_path / "out") == 3
    *_, error = notes = capsys.readouterr().err.splitlines()
    for line, problem in wrong.items():
        (note,) = (note for note in notes if note.startswith(f"note: {data}, line {line}: {problem}"))
        assert note.endswith("; not predicted")
    n = {"jsonl": 6, "csv": 4}[suffix]
    assert error == f"error: {data}: {len(wrong)} of {n} rows are wrong; their lines have no label"
    found = [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]
    right = [k for k, each in enumerate(found) if each["label"]]
    assert right == {"jsonl": [0, 4], "csv": [0, 3]}[suffix] and len(found) == n
    records = [{"text": text} for text in {"jsonl": ["fine", "poor"], "csv": ["fine", "a\nb"]}[suffix]]
    alone = predictions(folder / "run", records, tmp_path)
    for k, expected in zip(right, alone, strict=True):
        assert found[k]["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-6)
    assert all(str(data) in each["error"] for each in found if not each["label"])


@pytest.mark.parametrize(
    "words, code, message",
    [
        (["learn", "--data", "{two}", "--out", "{new}"], 2, "--recipe classify: it needs weights that were trained"),
        (["learn", "--init-from", "{hf}", "--data", "{text}", "--out", "{new}"], 3, "text.txt: not a file of examples"),
        (["learn", "--init-from", "{hf}", "--data", "{asks}", "--out", "{new}"], 3, "asks.jsonl, line 1: its fields a"),
        (["learn", "--init-from", "{hf}", "--data", "{none}", "--out", "{new}"], 3, "none.jsonl: no such file"),
        (["learn", "--init-from", "{none}", "--data", "{two}", "--out", "{new}"], 4, "none.jsonl: no such folder"),
        (["learn", "--init-from", "{hf}", "--data", "{two}", "--out", "{hf}"], 2, "--init-from {hf}, which must stay"),
        (["learn", "--init-from", "{hf}", "--data", "{two}", "--out", "{new}", "--T", "33"], 2, "--T 33 is above the"),
        (["learn", "--init-from", "{hf}", "--data", "{two}", "--out", "{new}", "--lr", "0"], 2, "--lr 0.0 is out of r"),
        (["evaluate", "{run}", "--data", "{three}"], 3, "three.jsonl, line 3: unknown label (2 are known); "),
        (["evaluate", "{run}", "--data", "{bare}"], 3, "bare.jsonl, line 1: its fields are 'text', and none"),
        (["evaluate", "{run}", "--data", "{text}"], 3, "text.txt: not a file of examples; give a .jsonl"),
        (["evaluate", "{hf}", "--data", "{two}"], 3, "two.jsonl: texts with labels, for a model of labels; "),
        (["evaluate", "{none}", "--data", "{two}"], 4, "none.jsonl: no such folder"),
        (["evaluate", "{run}/checkpoints/5", "--data", "{two}"], 4, "checkpoints/5: no such folder"),
        (["evaluate", "{run}", "--data", "{two}", "--batch-size", "0"], 2, "--batch-size 0 is out of range: it must"),
        (["evaluate", "{run}", "--data", "{two}", "--T", "8"], 2, "--T: {run} predicts labels, measured by"),
        (["evaluate", "{run}", "--data", "{two}", "--tasks", "x"], 2, "--tasks: {run} predicts labels, mea"),
        (["evaluate", "{run}", "--choices", "{two}"], 4, "run: predicts labels, and writes no text; see "),
        (["evaluate", "{run}", "--data", "{two}", "--json", "{two}"], 2, "is --data {two}, which must stay; choose"),
        (["evaluate", "{run}", "--data", "{two}", "--json", "{none}/x"], 2, "none.jsonl/x: No such file or director"),
        (["predict", "{run}", "--data", "{text}"], 3, "text.txt: not a file of examples"),
        (["predict", "{run}", "--data", "{asks}"], 3, "'completion', and an example has text, or text_a and te"),
        (["predict", "{run}", "--data", "{bare}", "--out", "{none}/x"], 2, "--out "),
        (["predict", "{run}", "--data", "{bare}", "--out", "{run}"], 2, "Is a directory; choose a file that can be"),
        (["predict", "{hf}", "--data", "{bare}"], 4, "hf: predicts no labels"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)  # fmt: skip
def test_a_wrong_input_is_one_line(folder, tmp_path, words, code, message, capsys):
    paths = {"text": tmp_path / "text.txt", "asks": tmp_path / "asks.jsonl", "bare": tmp_path / "bare.jsonl"}
    paths["text"].write_text("a text")
    write(paths["asks"], [{"prompt": "a", "completion": "b"}])
    write(paths["bare"], [{"text": "fine"}])
    paths |= {name: folder / f"{name}.jsonl" for name in ("two", "three", "none")}
    paths |= {"hf": folder / "hf", "run": folder / "run", "new": tmp_path / "new"}
    command = ["train", "--recipe", "classify"] if words[0] == "learn" else words[:1]
    assert run(*command, *(word.format(**paths) for word in words[1:])) == code
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("error: ") and err.count("\n") == 1
    assert message.format(**paths) in err
    assert not (tmp_path / "new").exists()


def test_a_wrong_input_is_refused_before_jax_is_imported(folder):
    words = [
        "train",
        "--recipe",
        "classify",
        "--init-from",
        str(folder / "hf"),
        "--data",
        str(folder / "hf/config.json"),
    ]
    code = "import sys; from jaxgpt import commands, console\n"
    code += f"print(console.run(commands.main, {words}), 'jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout == "3 False\n"


def test_what_fails_leaves_no_file(folder, tmp_path, capsys):
    (tmp_path / "run" / "checkpoints").mkdir(parents=True)  # a run without a checkpoint
    shutil.copy(folder / "run" / "config.json", tmp_path / "run")
    words = [tmp_path / "run", "--data", folder / "held.jsonl"]
    assert run("predict", *words, "--out", tmp_path / "out.jsonl") == 4
    assert run("evaluate", *words, "--json", tmp_path / "out.json") == 4
    assert capsys.readouterr().err.count("run: no checkpoint there yet") == 2
    assert not (tmp_path / "out.jsonl").exists() and not (tmp_path / "out.json").exists()
