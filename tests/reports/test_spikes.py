"""Loss spikes, against the same rule applied step by step."""

import math
import statistics

import numpy as np

from jaxgpt.reports import spikes
from jaxgpt.reports.spikes import Spike, find_spikes


def far_above(losses, i):
    """The rule: more than 8 deviations, and 3 %, above the median of the 50 losses before, of which there are 10."""
    before = losses[max(0, i - 50) : i]
    if len(before) < 10:
        return False
    median = statistics.median(before)
    deviation = 1.4826 * statistics.median(abs(loss - median) for loss in before)
    return losses[i] > median + max(8 * deviation, 0.03 * abs(median))


def test_spikes_are_those_of_the_rule(monkeypatch):
    monkeypatch.setattr(spikes, "CHUNK", 64)
    rng = np.random.default_rng(0)
    for planted in ([12, 49, 50, 51, 200], [9, 380, 395], []):
        losses = 4 + np.exp(-np.arange(400) / 50) + rng.normal(0, 0.05, 400)
        losses[planted] += rng.uniform(1, 3, len(planted))
        high = [i for i in range(400) if far_above(losses.tolist(), i)]
        merged = []
        for i in high:
            if merged and i - merged[-1][-1] <= 10:
                merged[-1].append(i)
            else:
                merged.append([i])
        expected = [max(group, key=lambda i: losses[i]) for group in merged]
        assert [spike.step for spike in find_spikes(np.arange(400), losses)] == expected
        assert set(expected) <= set(planted) and len(expected) >= len(planted) - 3
    assert find_spikes(np.arange(400), np.full(400, 2.0)) == []


def test_a_skipped_step_is_one_and_no_reference():
    losses = np.full(100, 2.0)
    losses[[5, 60]] = np.nan
    losses[61] = 9
    found = find_spikes(np.arange(1000, 1100), losses)
    assert [spike.step for spike in found] == [1005, 1060, 1061] and found[2] == Spike(1061, 9.0, 2.0)
    assert math.isnan(found[0].loss) and math.isnan(found[1].loss)
    assert find_spikes(np.arange(0), np.empty(0)) == []
