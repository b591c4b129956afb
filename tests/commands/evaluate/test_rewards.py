"""--data of a reward model: the mean and each text's reward, by its line."""

import json
import types

import pytest

from jaxgpt.commands.evaluate import rewards
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.data.judged import load_scored
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.inference import judging
from jaxgpt.models.configs import GPT2Config
from tests.support.models import random_model

CONFIG = GPT2Config(vocab_size=257, block_size=40, n_layer=1, n_head=2, n_embd=16, n_labels=1)


def test_each_text_has_its_reward(write, capsys):
    """Texts are cut where they were in training."""
    path = write("a.jsonl", [{"text": "so " * n} for n in (2, 9, 5)])
    source = types.SimpleNamespace(config=CONFIG, T=20, tokenizer=ByteTokenizer())
    model = random_model(CONFIG)
    found = rewards.prepare(EvaluateConfig("reward", path), source)(lambda: model)["rewards"]
    expected = judging.rewards(model, load_scored(path, 8, 20, tokenizer=ByteTokenizer()))
    assert json.loads(json.dumps(found["each"])) == [
        {"line": line, "reward": pytest.approx(reward)} for line, reward in enumerate(expected, 1)
    ]
    assert (found["mean"], found["n"]) == (pytest.approx(expected.mean()), 3)
    assert found["stderr"] == pytest.approx(expected.std(ddof=1) / 3**0.5)
    out = capsys.readouterr().out
    assert "cut at the end, to --T 20\n" in out
    assert f"reward    {found['mean']:.4f} ± {found['stderr']:.4f}, the mean of 3; from {min(expected):.4f} to " in out
