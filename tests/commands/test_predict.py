"""`jaxgpt predict`: its flags and a line of its output. What it predicts is in tests/integration/test_classify.py."""

import json

import numpy as np
import pytest

from jaxgpt import console
from jaxgpt.commands import predict


def test_a_line_has_the_likeliest_label_and_all_probabilities():
    line = predict.format_line(np.log([0.125, 0.5, 0.375]), ["schlecht", "schön", "[b]"])
    assert line.endswith("\n") and "schön" in line  # not \u00f6
    found = json.loads(line)
    assert found["label"] == "schön" and list(found["probabilities"]) == ["schlecht", "schön", "[b]"]
    assert list(found["probabilities"].values()) == pytest.approx([0.125, 0.5, 0.375])


def test_a_line_may_have_a_number():
    assert json.loads(predict.format_line(np.array([-0.25]), ["score"])) == {"score": -0.25}


@pytest.mark.parametrize(
    "words, code, message",
    [
        ([], 2, "not given: RUN, --data STR"),
        (["gpt2", "--data", "x.csv", "--batch-size", "65536"], 2, "--batch-size 65536 is out of range"),
        (["nowhere", "--data", "x.csv", "--text-field", "review"], 4, "nowhere: no such folder"),
        (["gpt2", "--data", "x.csv"], 4, "gpt2: predicts no labels; python -m jaxgpt train --recipe classify makes"),
    ],
)
def test_what_can_not_be_is_one_line(words, code, message, capsys):
    assert console.run(predict.main, words) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"error: {message}")
