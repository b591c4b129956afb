"""`jaxgpt look`: what it prints and writes, against the model itself, and every wrong input."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import look
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.models.configs import GPT2Config
from jaxgpt.runs.huggingface import load_hf
from jaxgpt.runtime import device
from tests.support.models import forward, write_gpt2

CONFIG = GPT2Config(block_size=32, n_layer=2, n_head=2, n_embd=16)
PROMPT, PATCH = "A <b>cat</b> sat on", "A <b>dog</b> lay in"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_gpt2(tmp_path_factory.mktemp("models") / "hf", CONFIG)


def run(*words):
    return console.run(look.main, [str(word) for word in words])


def test_it_prints_and_writes_what_the_model_does(folder, tmp_path, capsys):
    page, numbers = tmp_path / "look.html", tmp_path / "look.json"
    assert run(folder, "--prompt", PROMPT, "--patch", PATCH, "--out", page, "--json", numbers) == 0
    (tmp_path / "any").touch()
    assert {path.stat().st_mode for path in (page, numbers)} == {(tmp_path / "any").stat().st_mode}
    out, err = capsys.readouterr()
    assert err.startswith("note: ") and err.count("\n") == 1
    found = json.loads(numbers.read_text())
    ids, other = encoding().encode(PROMPT), encoding().encode(PATCH)
    logits = np.asarray(forward(load_hf(folder), jnp.array([ids, other])))[:, -1]
    assert found["ids"] == ids and "".join(found["tokens"]) == PROMPT
    answers = [each["id"] for each in found["answers"]]
    assert answers == [logits[0].argmax(), logits[1].argmax()]
    for answer, shares in zip(found["answers"], found["attribution"], strict=True):
        assert answer["logit"] == pytest.approx(logits[0, answer["id"]], abs=1e-5)
        assert answer["probability"] == pytest.approx(float(jax.nn.softmax(logits[0])[answer["id"]]), rel=1e-4)
        assert sum(np.sum(share) for share in shares.values()) == pytest.approx(answer["logit"], abs=1e-4)
    assert found["lens"]["ids"][-1][-1] == np.argsort(-logits[0])[:5].tolist()
    differences = logits[:, answers[0]] - logits[:, answers[1]]
    assert found["patching"]["logit_differences"] == pytest.approx(differences, abs=1e-5)
    T = len(ids)
    assert np.shape(found["attention"]) == (2, 2, T, T)
    assert np.shape(found["patching"]["positions"]) == (2, T) and np.shape(found["scores"]["induction"]) == (2, 2)
    labels = [line.split()[0] for line in out.splitlines()]
    assert labels == ["answer", "made", "heads", "heads", "patching", "saved", "saved"]
    assert repr(encoding().decode([answers[0]])) in out.splitlines()[0]
    assert "&lt;b" in page.read_text() and "<b>" not in page.read_text()


def test_an_answer_may_be_given_and_a_long_prompt_has_no_large_parts(folder, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(look, "MAX_PATCHED_POSITIONS", 2)
    monkeypatch.setattr(look, "MAX_ATTENTION", 9)
    words = ["--answer", " mat", " floor", "--json", tmp_path / "look.json"]
    assert run(folder, "--prompt", PROMPT, "--patch", PATCH, *words) == 0
    found = json.loads((tmp_path / "look.json").read_text())
    assert [answer["token"] for answer in found["answers"]] == [" mat", " floor"]
    assert found["attention"] is None and found["patching"]["positions"] is None
    assert capsys.readouterr().out.startswith("answer    ' mat' (")


def test_what_cannot_be_looked_at_is_one_line(folder, tmp_path, capsys):
    (tmp_path / "there.json").write_text("{}")
    (tmp_path / "empty" / "checkpoints").mkdir(parents=True)
    cnn = {"arch": "gated_cnn", "block_size": 32, "n_layer": 1, "n_embd": 8, "kernel_size": 2, "bottleneck": 4}
    (tmp_path / "cnn").mkdir()
    (tmp_path / "cnn" / "config.json").write_text(json.dumps(cnn | {"vocab_size": 50257}))
    for words, code, said in (
        ([folder, "--prompt", ""], 2, "--prompt is empty"),
        ([folder, "--prompt", " a" * 33], 2, "--prompt has 33 tokens, more than the model's context of 32; shorten it"),
        ([folder, "--prompt", " a b", "--patch", " a"], 2, "--patch has 1 token, and --prompt has 2: give prompts of"),
        ([folder, "--prompt", "a", "--answer", " Eiffel Tower"], 2, "--answer ' Eiffel Tower' is 4 tokens, and must"),
        ([folder, "--prompt", "a", "--answer", " a", " a"], 2, "--answer ' a' is compared with itself"),
        ([folder, "--prompt", "a", "--answer", "a", "b", "c"], 2, "--answer has 3 values"),
        ([folder, "--prompt", "a", "--out", tmp_path / "there.json"], 2, "exists already; choose another file"),
        ([folder, "--prompt", "a", "--out", folder / "config.json"], 2, "--out"),
        ([folder, "--prompt", "a", "--out", tmp_path / "x", "--json", tmp_path / "x"], 2, "--out and --json are both"),
        ([tmp_path / "none", "--prompt", "a"], 4, "no such folder"),
        ([tmp_path / "empty", "--prompt", "a"], 4, "a run that is just starting; wait for it"),
        ([tmp_path / "cnn", "--prompt", "a"], 4, "its architecture is a gated CNN; look reads a GPT-2 alone"),
    ):
        assert run(*words) == code
        out, err = capsys.readouterr()
        assert out == "" and err.startswith("error: ") and said in err and err.count("\n") == 1
    assert (tmp_path / "there.json").read_text() == "{}"


def test_no_gpu_is_one_line(folder, capsys, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    assert run(folder, "--prompt", "a", "--device", "gpu") == 2
    assert capsys.readouterr().err.count("\n") == 1
