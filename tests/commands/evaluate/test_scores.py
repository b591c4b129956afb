"""What is computed of numbers that a model gives; tests/commands/test_glue.py has those of a trained one."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaxgpt.commands.evaluate import scores
from jaxgpt.commands.evaluate.config import EvaluateConfig
from jaxgpt.data.config import FieldNames
from jaxgpt.errors import DataError
from jaxgpt.inference import classify
from jaxgpt.models.configs import SCORE, GPT2Config
from jaxgpt.runs.weights import WeightsRef

SOURCE = WeightsRef("run", GPT2Config(n_labels=1), is_run=False, folder=None, labels=SCORE, T=8)


def test_the_error_and_both_correlations(tmp_path, monkeypatch, capsys):
    truth, predicted = [1, 2.5, 0, 4], [1, 2, 1, 9]
    lines = [json.dumps({"text": "a", "alike": each}) + "\n" for each in truth]
    (tmp_path / "a.jsonl").write_text("".join(lines))
    monkeypatch.setattr(classify, "head_outputs", lambda model, data: iter([np.array(predicted, float)[:, None]]))
    config = EvaluateConfig("run", str(tmp_path / "a.jsonl"), fields=FieldNames(score_field="alike"))
    found = scores.prepare(config, SOURCE)(lambda T: None)
    x, y = np.array(predicted) - 13 / 4, np.array(truth) - 7.5 / 4
    assert found["pearson"] == pytest.approx((x @ y) / np.sqrt((x @ x) * (y @ y)))
    # Ranks 1.5, 3, 1.5, 4 against 2, 3, 1, 4.
    assert found["spearman"] == pytest.approx(4.5 / np.sqrt(4.5 * 5))
    assert (found["loss"], found["n"]) == (pytest.approx((0 + 0.25 + 1 + 25) / 4), 4)
    assert "the mean squared error of 4" in capsys.readouterr().out


def test_a_file_without_numbers_is_refused(tmp_path):
    for name, error in (("a.txt", "not a file of examples"), ("a.csv", "an example has text and score")):
        Path(tmp_path, name).write_text("text,other\na,b\n")
        with pytest.raises(DataError, match=error):
            scores.prepare(EvaluateConfig("run", str(tmp_path / name)), SOURCE)
