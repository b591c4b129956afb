"""How well runs remember canaries, and models that can't be asked."""

import json

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import evaluate, train
from jaxgpt.data import shards
from jaxgpt.data.gpt2_tokenizer import encoding
from jaxgpt.inference import memorization
from jaxgpt.prepare import canaries
from tests.support import tasks


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    """A folder with three canaries among twenty other documents, and a model that is untrained."""
    folder, rng = tmp_path_factory.mktemp("canaries"), np.random.default_rng(0)
    (folder / "data").mkdir()
    planted = canaries.plant(3, 1)
    canaries.write(folder / "data", planted)
    texts = [f"My dog has {n} bones." for n in range(20)]
    texts += [each.text for each in planted for _ in range(each.repeats)]
    rng.shuffle(texts)
    ids = [np.array([encoding().eot_token, *encoding().encode_ordinary(text)]) for text in texts]
    written = shards.write(folder / "data", "train", ids, 10**6)
    split = {"documents": len(texts), "text_bytes": len("".join(texts)), "shards": written}
    shards.write_meta(folder / "data", {"train": split})
    tasks.export(folder / "untrained")
    return folder


@pytest.fixture(scope="module")
def trained(prepared):
    """The same folder, with a run on the documents."""
    words = ["--data", prepared / "data" / "train_000000.bin", "--steps", 80, "--lr", 0.01, "--B", 4, "--T", 32]
    words += ["--n-layer", 1, "--n-head", 2, "--n-embd", 64, "--block-size", 64, "--out", prepared / "trained"]
    assert console.run(train.main, [str(word) for word in words]) == 0
    return prepared


def run(*words):
    return console.run(evaluate.main, [str(word) for word in words])


@pytest.mark.slow
def test_a_model_that_saw_them_more_often_exposes_them_more(trained, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(memorization, "REFERENCES", 127)
    found, said = {}, {}
    for name in ("trained", "untrained"):
        words = ["--canaries", trained / "data", "--json", tmp_path / f"{name}.json", "--batch-size", 64]
        assert run(trained / name, *words) == 0
        found[name] = json.loads((tmp_path / f"{name}.json").read_text())["canaries"]
        said[name] = capsys.readouterr().out
        assert found[name]["trained"] == (name == "trained") == ("a control, if it" not in said[name])
        assert found[name]["largest"] == 7 and len(found[name]["each"]) == 3
        assert memorization.EXPLANATION in said[name] and "│ 16 times    │ 1        │" in said[name]
    first, often = ({row["repeats"]: row for row in found[name]["by_repeats"]} for name in ("untrained", "trained"))
    assert max(row["exposure_mean"] for row in first.values()) < 5 and first[16]["written"] == 0
    assert often[1]["exposure_mean"] < often[16]["exposure_mean"] == 7
    assert often[1]["extrapolated_mean"] < often[4]["extrapolated_mean"] < often[16]["extrapolated_mean"] > 9


def test_a_model_too_small_for_them_is_refused_before_it_is_read(prepared, tmp_path, capsys):
    config = json.loads((prepared / "untrained" / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"n_positions": 12}))
    assert run(tmp_path, "--canaries", prepared / "data") == 2
    assert run(prepared / "untrained", "--canaries", prepared) == 3
    assert run(prepared / "untrained", "--canaries", prepared / "data", "--json", prepared / "data/canaries.json") == 2
    small, none, same = capsys.readouterr().err.splitlines()
    assert small == "error: --canaries: each needs 13 tokens, and the model's context is 12; use another"
    assert "canaries.json: no such file" in none and "would overwrite a file of --canaries" in same
