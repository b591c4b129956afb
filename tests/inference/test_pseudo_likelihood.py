"""Pseudo-log-likelihood, against a loop over single tokens with transformers' model of the same weights."""

import json
import math

import numpy as np
import pytest

from jaxgpt.inference.pseudo_likelihood import pseudo_likelihood
from jaxgpt.models.configs import BertConfig
from jaxgpt.runs.huggingface import save_hf
from tests.support import golden
from tests.support.models import spread_model

torch = pytest.importorskip("torch", reason=golden.NEEDS_PYTORCH)
transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
CONFIG = BertConfig(vocab_size=61, block_size=24, n_layer=1, n_head=2, n_embd=16)


def test_each_token_is_hidden_in_turn(tmp_path):
    model = spread_model(CONFIG)
    save_hf(model, tmp_path)
    theirs = transformers.BertForMaskedLM.from_pretrained(tmp_path).eval()
    ordinary = np.arange(61) < 58
    rng = np.random.default_rng(0)
    windows = [rng.integers(0, 61, T, dtype=np.int32) for T in (24, 24, 11)]
    windows.append(np.array([59, 60], np.int32))  # special tokens alone
    found = [*pseudo_likelihood(model, windows, 60, ordinary, batch_size=5)]
    assert found[-1]["loss"] == (0, 0)
    for tokens, metrics in zip(windows, found, strict=True):
        losses = []
        for t in np.flatnonzero(ordinary[tokens]):
            hidden = torch.from_numpy(tokens.astype(np.int64))
            hidden[t] = 60
            with torch.no_grad():
                log_p = theirs(hidden[None]).logits[0, t].log_softmax(-1)
            losses.append(-float(log_p[int(tokens[t])]))
        assert metrics["loss"][1] == len(losses)
        np.testing.assert_allclose(metrics["loss"][0], sum(losses), rtol=1e-5)
        np.testing.assert_allclose(metrics["loss_squared"][0], sum(loss**2 for loss in losses), rtol=1e-5)
        np.testing.assert_allclose(metrics["bits_per_masked_token"][0], sum(losses) / math.log(2), rtol=1e-5)
    assert json.loads((tmp_path / "config.json").read_text())["model_type"] == "bert"
