"""A short form of tests/support/fuzz.py."""

import pytest

from tests.support.fuzz import TARGETS, fuzz


@pytest.mark.parametrize("target", TARGETS.values(), ids=list(TARGETS))
def test_a_damaged_input_is_refused_or_taken_for_what_it_is(target):
    count, taken = fuzz(target, 40)
    assert count >= 40 and 0 < taken < count
