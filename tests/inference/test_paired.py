import math

import numpy as np
import pytest

from jaxgpt.data.text import Text
from jaxgpt.inference.paired import Sums, compare, window_losses
from jaxgpt.models.configs import GPT2Config
from jaxgpt.objectives import multi_token, next_token
from jaxgpt.training.validation import summarize
from tests.support.models import random_model

SHAPE = {"vocab_size": 11, "block_size": 8, "n_head": 2, "n_embd": 8}


def test_items_that_count_once_have_the_error_of_their_differences():
    draw = np.random.default_rng(0)
    before, after = draw.normal(5, 3, 40), draw.normal(0, 0.1, 40)
    after += before + 0.5
    found = compare(Sums(before, np.ones(40)), Sums(after, np.ones(40)))
    assert (found.before, found.after) == pytest.approx((before.mean(), after.mean()))
    assert found.change == pytest.approx((after - before).mean())
    assert found.stderr == pytest.approx(np.std(after - before, ddof=1) / math.sqrt(40))
    assert found.stderr < np.std(before, ddof=1) / math.sqrt(40) / 10  # what an unpaired error would be


def test_the_error_is_the_spread_of_the_change_over_samples_of_windows():
    """Windows of other lengths, whose tokens vary together: against samples of a population."""
    draw = np.random.default_rng(1)
    changes, errors = [], []
    for _ in range(400):
        counts = draw.choice([16.0, 16, 16, 5], 60)
        differences = counts * draw.normal(0.1, 0.3, 60)  # of a window, not of its tokens
        found = compare(Sums(np.zeros(60), counts), Sums(differences, counts))
        changes.append(found.change)
        errors.append(found.stderr)
    assert np.mean(changes) == pytest.approx(0.1, abs=0.01)
    assert np.mean(errors) == pytest.approx(np.std(changes), rel=0.15)
    assert np.mean(np.abs(np.array(changes) - 0.1) < 2 * np.array(errors)) == pytest.approx(0.95, abs=0.03)


def test_one_item_has_no_error_and_no_change_is_none():
    assert math.isnan(compare(Sums(np.ones(1), np.ones(1)), Sums(np.ones(1), np.ones(1))).stderr)
    same = Sums(np.arange(5.0), np.ones(5))
    assert (compare(same, same).change, compare(same, same).stderr) == (0, 0)


@pytest.mark.parametrize("horizon", [1, 2])
def test_the_losses_of_windows_are_those_that_a_run_measures(horizon):
    """Each alone, by the objective's own measure of all of it, and by the losses of single tokens."""
    tokens = np.random.default_rng(0).integers(0, 11, 50).astype(np.uint16)
    data = Text("a text", tokens, "its hash", B=4, T=8, horizon=horizon)
    model, done = random_model(GPT2Config(**SHAPE, n_layer=1 + horizon, predict_tokens=horizon)), []
    sums = window_losses(model, data, done.append)
    measure = next_token.measure if horizon == 1 else multi_token.measure
    expected = summarize(measure(model, batch) for batch in data.one_pass())
    assert sums.mean == pytest.approx(expected["loss"], rel=1e-6)
    assert sums.counts.tolist() == [8, 8, 8, 8, 8, 8, 1] and sum(done) == 8
    if horizon == 1:
        window = next_token.token_losses(model, tokens[None, 8:16].astype(np.int32), tokens[None, 9:17].astype(int))
        assert sums.values[1] == pytest.approx(float(window.sum()), rel=1e-5)
