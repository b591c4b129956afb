import json

import numpy as np
import pytest

from jaxgpt.inference.episodes import Transcript
from jaxgpt.runs.progress import Run
from jaxgpt.training.answers import SHOWN, AnswersFile
from tests.support.talk import TOKENIZER


def transcripts(step):
    tokens = np.int32([1, 2, 3, 4, 0])  # abcd and the end
    texts = [Transcript(tokens, tokens > 2, tokens * 0.0, 2, step + row / 10, row == 1) for row in range(6)]
    return texts


def train(path, start, steps):
    """The steps of a run that writes every second batch."""
    with AnswersFile(path, start, 2, TOKENIZER) as answers:
        for step in range(start, steps):
            answers.before_step(Run(None, step))
            answers.watch(transcripts(step))
            answers.after_step(Run(None, step + 1), {})


@pytest.mark.parametrize("resumed_at", [2, 3, 4, 5])
def test_a_run_that_resumes_writes_the_rows_of_one_that_did_not(tmp_path, resumed_at):
    whole, parts = tmp_path / "whole.jsonl", tmp_path / "parts.jsonl"
    train(whole, 0, 6)
    rows = [json.loads(line) for line in whole.read_text().splitlines()]
    assert [row["step"] for row in rows] == [0] * SHOWN + [2] * SHOWN + [4] * SHOWN
    assert rows[5] == {"step": 2, "prompt": "ab", "answer": "cd\n", "reward": 2.1, "cut": True}
    train(parts, 0, 5)  # killed then, with a checkpoint of an earlier step
    train(parts, resumed_at, 6)
    assert parts.read_bytes() == whole.read_bytes()
