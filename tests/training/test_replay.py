"""What of a run is trained again, and its numbers beside the log's; commands/test_replay.py trains."""

import dataclasses
import re

import numpy as np
import pytest

from jaxgpt.data.text import Text
from jaxgpt.errors import CheckpointError
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.replay import ReplayedRun, is_as_logged
from tests.support import run_folders

START = run_folders.START | {"fingerprint": 64 * "f"}
ROWS = [{"step": step, "position": 32 * step, "tokens_seen": 32 * (step + 1)} for step in range(3)]
TOKENS = np.arange(200, dtype=np.uint16)


def run_of(rows=ROWS, starts=(START,)):
    data = Text("a text", TOKENS, START["fingerprint"], B=2, T=16)
    config = TrainConfig().replace(B=2, T=16, steps=60, out="run")
    return ReplayedRun(config, [*starts], {row["step"]: row for row in rows}, data)


def test_a_batch_is_that_of_its_position_with_the_flags_of_its_time():
    starts = START, START | {"step": 2, "B": 3, "T": 8}
    run = run_of([*ROWS[:2], ROWS[2] | {"tokens_seen": 64 + 24}], starts)
    batch, origins = run.batch(1)
    assert origins == [("a text", 32), ("a text", 48)] and batch["tokens"][1].tolist() == TOKENS[48:64].tolist()
    batch, origins = run.batch(2)
    assert [place for _, place in origins] == [64, 72, 80] and batch["targets"][2].tolist() == TOKENS[81:89].tolist()


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("position", 10**9, "step 1 has position 1,000,000,000, outside of the text"),
        ("position", -1, "step 1 has position -1, outside"),
        ("tokens_seen", 7, "the rows before step 2 are not those of 32 tokens"),
        ("step", 9, "no row of step 1, which comes before the requested one"),
    ],
)
def test_a_log_that_cannot_be_is_refused(field, value, message):
    with pytest.raises(CheckpointError, match=f"^run/log.jsonl.*{message}"):
        run_of([ROWS[0], ROWS[1] | {field: value}, ROWS[2]]).batch(1)


def test_flags_or_data_that_are_gone_are_refused():
    with pytest.raises(CheckpointError, match=r"was rewritten at step 2 and does not have the flags of step 1; ask"):
        run_of(starts=[START | {"step": 2}]).config_at(1)
    run = run_of()
    other = dataclasses.replace(run, data=dataclasses.replace(run.data, fingerprint="0" * 64))
    with pytest.raises(CheckpointError, match=r"was trained on another text than a text: its hash was f{16}, and is 0"):
        other.config_at(1)


def test_numbers_are_those_of_the_log_or_told_of(capsys):
    row = {"step": 7, "loss": 1.5, "grad_norm": None}
    assert is_as_logged({"loss": 1.5, "grad_norm": float("nan")}, row, tell=True)
    for tell in (False, True):
        assert not capsys.readouterr().err
        assert not is_as_logged({"loss": 1.25, "grad_norm": 2.0}, row, tell)
    numbers = "loss 1.25, grad norm 2.0 now, loss 1.5, grad norm None in the log"
    assert re.search(f"from step 7 on the numbers are not those of the log: {numbers}", capsys.readouterr().err)
