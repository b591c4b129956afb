"""Rows against a packing that places one span after the other."""

import bisect

import numpy as np
import pytest

from jaxgpt.data.packing import best_fit_decreasing


def count_rows(lengths, T):
    """Rows of best fit decreasing, one span at a time."""
    rooms, num_rows = [], 0  # of all rows, sorted
    for length in sorted(lengths.tolist(), reverse=True):
        at = bisect.bisect_left(rooms, length)
        if at == len(rooms):
            num_rows += 1
            bisect.insort(rooms, T - length)
        else:
            bisect.insort(rooms, rooms.pop(at) - length)
    return num_rows


def uniform(draw, n, T):
    return draw.integers(20, 201, n)


def many_short_and_some_long(draw, n, T):
    return np.clip(draw.lognormal(5, 1, n).astype(int), 1, T)


def half_a_row_or_little(draw, n, T):
    return np.where(draw.random(n) < 0.5, draw.integers(T // 3, T // 2 + 20, n), draw.integers(1, 60, n))


@pytest.mark.parametrize("T", [256, 512, 1024])
@pytest.mark.parametrize("distribution", [uniform, many_short_and_some_long, half_a_row_or_little])
def test_rows_are_those_of_best_fit_decreasing(distribution, T):
    lengths = distribution(np.random.default_rng(0), 3000, T)
    row, column = best_fit_decreasing(lengths, T)
    assert row.max() + 1 == count_rows(lengths, T)
    taken = np.zeros((row.max() + 1, T + 1), int)  # one more where a span starts, one less behind its end
    np.add.at(taken, (row, column), 1)
    np.add.at(taken, (row, column + lengths), -1)
    taken = taken.cumsum(axis=1)
    assert taken.max() == 1 and (taken[:, :-1] >= taken[:, 1:]).all()  # no token twice, no gap in a row


@pytest.mark.parametrize("lengths", [[7], [1], [7] * 5, [1] * 20, [4, 3, 4, 3, 1], [2, 5, 2, 7]])
def test_a_few_spans(lengths):
    lengths = np.array(lengths)
    row, column = best_fit_decreasing(lengths, 7)
    assert sorted(set(row.tolist())) == list(range(count_rows(lengths, 7)))
    for each in set(row.tolist()):
        used = [place for i in np.flatnonzero(row == each) for place in range(column[i], column[i] + lengths[i])]
        assert sorted(used) == list(range(len(used))) and len(used) <= 7
