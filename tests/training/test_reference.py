"""The column that answers are compared with: by the weights of --init-from, once."""

import jax
import numpy as np
import pytest

from jaxgpt.data import examples
from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import OBJECTIVES
from jaxgpt.objectives.preferences import score_answers
from jaxgpt.runs.huggingface import load, save_hf
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.runtime.mesh import make_mesh
from jaxgpt.training import reference, setup
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.reference import add_reference
from tests.support.models import spread_model, write_gpt2

CONFIG = GPT2Config(block_size=32, n_layer=1, n_head=2, n_embd=16)
FLAGS = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 32, "B": 4, "T": 12, "objective": "dpo"}


@pytest.fixture
def weights(once):
    return resolve_weights(once("reference", lambda folder: write_gpt2(folder / "hf", CONFIG)) / "hf")


@pytest.fixture
def data(write):
    pairs = [{"prompt": f"{n} is", "chosen": f" {n * n}", "rejected": f" {n}, or"} for n in range(7)]
    return examples.load(write("pairs.jsonl", pairs), 4, 12)[0]


def add(weights, *datasets, mesh=None, **options):
    trainer = setup.build_trainer(TrainConfig.of(**FLAGS), mesh, OBJECTIVES["dpo"])
    return add_reference(OBJECTIVES["dpo"], trainer, weights, 4, *datasets, **options)


def test_the_column_is_what_the_weights_say_of_each_answer_and_is_kept(weights, data, cache, monkeypatch):
    (with_column, nothing), digest = add(weights, data, None)
    assert nothing is None and len(digest) == 64 and with_column.fingerprint == data.fingerprint
    column, model = with_column.table["reference"], load(weights)
    assert column.shape == (7, 2) and column.dtype == np.float32
    whole = {name: np.asarray(array[:]) for name, array in data.table.items()}
    np.testing.assert_allclose(column, jax.jit(lambda: score_answers(model, whole).log_probs)(), rtol=1e-5)

    (kept,) = (cache / "reference").iterdir()
    monkeypatch.setattr(reference, "_write", None)  # nothing is computed again
    assert np.array_equal(add(weights, data)[0][0].table["reference"], column)
    monkeypatch.undo()
    kept.write_bytes(kept.read_bytes()[:-1] + b"x")  # a corrupt one is
    assert np.array_equal(add(weights, data)[0][0].table["reference"], column)


def test_a_mesh_gives_every_process_the_whole_column(weights, data, eight_devices, monkeypatch, tmp_path):
    (one,), digest = add(weights, data)
    monkeypatch.setenv("JAXGPT_CACHE", str(tmp_path / "other"))
    (other,), same = add(weights, data, mesh=make_mesh({"data": 2, "fsdp": 2}, eight_devices))
    assert digest == same
    np.testing.assert_allclose(other.table["reference"], one.table["reference"], rtol=1e-5)


def test_the_hash_is_of_the_weights_and_not_of_their_name(weights, data, tmp_path):
    assert add(resolve_weights(write_gpt2(tmp_path / "hf", CONFIG)), data)[1] == add(weights, data)[1]
    other = spread_model(CONFIG)
    save_hf(other, tmp_path / "other")
    (changed,), digest = add(resolve_weights(tmp_path / "other"), data)
    (column,), first = add(weights, data)
    assert digest != first and not np.allclose(changed.table["reference"], column.table["reference"])


def test_it_needs_weights(data):
    with pytest.raises(UsageError, match="--objective dpo compares with weights to begin with; name them with --init-"):
        add(None, data)


def test_a_signal_ends_it_and_nothing_is_kept(weights, data, cache):
    asked = iter([False, True])  # before the second of two batches
    (without,), _ = add(weights, data, interrupted=lambda: next(asked))
    assert "reference" not in without.table and not [*cache.rglob("reference-*")] and next(asked, None) is None
