"""A short form of tests/support/damage.py."""

import pytest

from tests.support import damage


@pytest.mark.parametrize("target", damage.READERS)
def test_a_damaged_file_of_ours_is_refused_in_one_line_or_taken_for_what_it_is(target, once):
    folder = once("damage", damage.fill)
    counts = damage.sweep_reader(folder, target, every=9)
    assert sum(counts.values()) > 8
