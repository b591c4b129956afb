"""One head carries induction: without it the repetition is lost, without others it is not."""

import numpy as np
import pytest

from benchmarks.induction import draw_rows, measure_heads, train_model


def test_each_sequence_repeats_at_a_distance_of_its_own():
    rows = draw_rows(np.random.default_rng(0))
    distances = [next(d for d in range(4, 13) if (row[d:] == row[:-d]).all()) for row in rows]
    assert {*distances} == {*range(4, 13)}


@pytest.mark.slow
def test_without_the_induction_head_a_repetition_is_lost(optimized):
    """Olsson et al. (2022): nor is it continued without the previous-token head, from which that head reads."""
    model = train_model(layers=4, heads=1, steps=300, lr=3e-3, seed=0)
    intact, scores, costs, _ = measure_heads(model, seed=1)
    top, previous = scores["induction"].argmax(), scores["previous_token"].argmax()
    assert intact < 0.6 and (previous, top) == (0, 1)
    assert costs[top] > 1 and costs[previous] > 1 and costs[2:].max() < 0.1
