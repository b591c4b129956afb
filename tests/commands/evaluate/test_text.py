"""The loss on a text is PyTorch's, and that of completions brute force's."""

import json
import math
import random

import jax
import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, export, train
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.runs.huggingface import load
from jaxgpt.runs.weights import resolve_weights
from tests.support import golden, tasks


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


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
