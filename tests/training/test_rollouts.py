"""Which level is played when, and with which rows; a policy that only notes what it is asked for."""

import dataclasses

import numpy as np
import pytest

from jaxgpt.errors import DataError
from jaxgpt.objectives.policy import LOGGED
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.rollouts import FILLING, VALIDATION_POSITION, Rollouts, load_data, load_rollouts
from tests.support.talk import TOKENIZER, Talk

B, T, G = 6, 8, 2


class Notes:
    """Asked for levels at a position, it gives rows that name their level."""

    reference = None

    def __init__(self):
        self.asked = []

    def write(self, data, model, levels, position):
        self.asked.append((position, levels))
        return levels

    def batch(self, data, model, transcripts, group_size):
        return {"reward": np.float32(transcripts), "weight": np.ones(len(transcripts), np.float32)}


@pytest.fixture
def data():
    return Rollouts(Talk(num_levels=5), TOKENIZER, G, answer_tokens=3, seed=7, B=B, T=T, policy=Notes())


def levels_of(data, steps):
    """The levels of the batches of so many steps, in the rows of `data`."""
    notes, position, found = dataclasses.replace(data, policy=Notes()), 0, []
    for _ in range(steps):
        batch, position = notes.batch(position, "a model")
        found.append(batch["reward"].astype(int).tolist())
    assert [at for at, _ in notes.policy.asked] == [step * B * T for step in range(steps)]
    return found


def test_every_epoch_has_each_level_once_in_an_order_of_its_own(data):
    batches = levels_of(data, 10)
    assert all(row[0::2] == row[1::2] for row in batches)  # neighbours are a group
    order = [level for row in batches for level in row[::2]]
    epochs = [order[start : start + 5] for start in range(0, 30, 5)]
    assert [sorted(epoch) for epoch in epochs] == [[*range(5)]] * 6 and len(set(map(tuple, epochs))) > 3
    assert data.batches_per_epoch() == 10 / 6
    other = levels_of(dataclasses.replace(data, seed=8), 10)
    assert other != batches and levels_of(data, 10) == batches


def test_a_process_has_its_rows_of_the_batch(data):
    whole = levels_of(data, 4)
    for rows in (slice(0, 2), slice(2, 6), slice(3, 5)):
        assert levels_of(dataclasses.replace(data, rows=rows), 4) == [row[rows] for row in whole]


def test_a_validation_has_each_level_once_and_the_rest_does_not_count(data):
    data = dataclasses.replace(data, B=3, policy=Notes())
    batches = [*data.one_pass("a model")]
    assert [batch["reward"].tolist() for batch in batches] == [[0, 1, 2], [3, 4, 4]]
    assert [batch["weight"].tolist() for batch in batches] == [[1, 1, 1], [1, 1, FILLING]]
    first = data.policy.asked[:]
    assert first == [(VALIDATION_POSITION, [0, 1, 2]), (VALIDATION_POSITION + 3, [3, 4, 4])]
    _ = [*data.one_pass("a model")]  # again with the same keys
    assert data.policy.asked == first * 2
    half = dataclasses.replace(data, rows=slice(1, 2), policy=Notes())
    assert [batch["reward"][1] for batch in half.one_pass("a model")] == [1, 4]


def test_without_a_model_it_tells_what_a_batch_looks_like(data):
    batch, position = dataclasses.replace(data, rows=slice(1)).batch(0)
    assert position == B * T and {len(array) for array in batch.values()} == {1}
    assert set(batch) == {"tokens", "targets", "old", "advantage", "weight", *LOGGED} and (batch["targets"] == -1).all()
    (filling,) = dataclasses.replace(data, B=5).one_pass()
    assert filling.keys() == batch.keys() and (filling["weight"] == FILLING).all()


def test_the_most_tokens_of_an_episode(data):
    assert [dataclasses.replace(data, T=T).max_tokens for T in (5, 9, 10, 40)] == [4, 8, 9, 9]


@pytest.mark.parametrize("val", [None, "p.jsonl"])
def test_a_prompt_without_room_is_refused_at_the_start_with_its_line(val, write):
    path = write("p.jsonl", [{"prompt": "1 + 1 ="}, {"prompt": "1 + 1 + 1 + 1 ="}])
    short = write("short.jsonl", [{"prompt": "1 + 1 ="}])
    flags = {"data": str(short if val else path), "val": val and str(path), "tokenizer": "bytes", "B": 8}
    config = TrainConfig.of(objective="rloo", reward="length:5", **flags)
    with pytest.raises(
        DataError, match=r"p\.jsonl, line 2: the prompt has 15 tokens, and --T 15 takes 1 to 14; correct"
    ):
        load_rollouts(config.replace(T=15))
    data, _ = load_rollouts(config.replace(T=16))
    assert data.num_rows() == 2 - bool(val) and data.answer_tokens == 15
    data.environment.process.close()


def test_a_judged_answer_is_what_the_objective_learns(write):
    record = {"prompt": "a", "chosen": "b", "rejected": "c", "completion": "b"}
    flags = {"data": write("a.jsonl", [record, record | {"chosen": "d"}]), "T": 8, "val": "0.5"}
    for objective, kind in (("dpo", "preferences"), ("reward", "preferences"), ("auto", "completions")):
        assert [each.kind for each in load_data(TrainConfig.of(objective=objective, **flags))] == [kind] * 2
