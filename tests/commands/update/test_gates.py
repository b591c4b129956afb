import math

import numpy as np
import pytest

from jaxgpt.commands.update.config import GATES
from jaxgpt.commands.update.gates import MEASUREMENTS, Gate, make_sums
from jaxgpt.inference.paired import Change, compare

NAN = math.nan


@pytest.mark.parametrize(
    ("is_loss", "limit", "change", "stderr", "passed"),
    [
        (True, 0.02, 0.02, 0.0, True),
        (True, 0.02, 0.0201, 0.0, False),
        (True, 0.02, 0.03, 0.006, True),  # within two standard errors of what is allowed
        (True, 0.02, 0.03, 0.004, False),
        (True, 0.02, -5.0, 0.0, True),
        (True, 0.02, NAN, 0.1, False),  # a loss that is not finite is no loss that has not risen
        (True, 0.02, 0.0, NAN, False),
        (False, 0.0, 0.5, 0.0, True),
        (False, 0.0, -0.1, 0.06, True),
        (False, 0.0, -0.1, 0.04, False),
        (True, None, 9.0, 0.0, True),
    ],
)
def test_a_gate_refuses_what_is_worse_beyond_two_standard_errors(is_loss, limit, change, stderr, passed):
    verdict = Gate("a", lambda model: None, is_loss, limit).judge(Change(1.0, 1.0 + change, change, stderr))
    assert verdict["passed"] is passed
    assert verdict.keys() == {"name", "before", "after", "change", "stderr", "limit", "passed"}


def test_items_are_paired():
    hits = np.array([True] * 30 + [False] * 10)
    worse = hits.copy()
    worse[:4] = False
    change = compare(make_sums(hits), make_sums(worse))  # four of forty, each the other way round
    assert (change.before, change.after) == (0.75, 0.65)
    assert change.stderr == pytest.approx(np.std([1] * 4 + [0] * 36, ddof=1) / math.sqrt(40))


def test_each_name_of_the_flag_has_a_measurement():
    assert {*GATES} == MEASUREMENTS.keys()
