"""Erased ranges, against one token after the other."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaxgpt.data.redaction import contains, cut, mask_targets, merge, parse_erasures, subtract
from jaxgpt.errors import DataError

PAIRS = st.lists(st.tuples(st.integers(0, 40), st.integers(0, 40)), max_size=8)


@given(PAIRS, st.integers(0, 40), st.integers(0, 40))
def test_ranges_are_the_sets_of_their_tokens(pairs, first, end):
    tokens = {token for a, b in pairs for token in range(a, b)}
    ranges = merge(pairs)
    assert set(np.flatnonzero(contains(ranges, np.arange(50))).tolist()) == tokens
    assert all(b < c for (_, b), (c, _) in zip(ranges.tolist(), ranges.tolist()[1:], strict=False))
    if first < end:
        part = {token for a, b in cut(ranges, first, end).tolist() for token in range(a, b)}
        assert part == {token - first for token in tokens if first <= token < end}


@given(PAIRS, PAIRS)
def test_ranges_without_others_are_the_difference_of_sets(pairs, others):
    sets = [{token for a, b in each for token in range(a, b)} for each in (pairs, others)]
    left = subtract(merge(pairs), merge(others))
    assert set(np.flatnonzero(contains(left, np.arange(50))).tolist()) == sets[0] - sets[1]


@pytest.mark.parametrize("horizon", [1, 3])
def test_targets_are_masked_token_by_token(horizon):
    end, text = 9, np.array([9, 1, 2, 9, 9, 9, 9, 9, 3, 4, 9, 5, 9, 9, 6, 7], np.int32)  # 4 to 7 and 13 were erased
    erased = {4, 5, 6, 13}
    T, starts = 4, np.array([0, 4, 8])
    targets = np.array([[[text[s + t + i + 1] for t in range(T)] for i in range(horizon)] for s in starts])
    targets = targets.astype(np.int32)
    expected = targets.copy()
    for row, start in enumerate(starts):
        for i in range(horizon):
            for t in range(T):
                token = start + t + i + 1
                if token in erased or (text[token] == end and token - 1 in erased):
                    expected[row, i, t] = -1
    if horizon == 1:
        targets, expected = targets[:, 0], expected[:, 0]
    masked = mask_targets(targets, starts, merge([(4, 7), (13, 14)]), end)
    np.testing.assert_array_equal(masked, expected)
    assert masked.dtype == np.int32 and (expected == -1).any() and (targets >= 0).all()


@pytest.mark.parametrize(
    "content",
    [
        3,
        [3],
        [{"splits": {"train": {"ranges": [[0, 1]]}}}],
        [{"splits": {"train": {"fingerprint": "a", "ranges": [[0, 11]]}}}],
        [{"splits": {"train": {"fingerprint": "a", "ranges": [[3, 3]]}}}],
        [{"splits": {"train": {"fingerprint": "a", "ranges": [[3, 5], [1, 2]]}}}],
        [{"splits": {"train": {"fingerprint": "a", "ranges": [[True, 2]]}}}],
    ],
)
def test_what_is_no_record_of_an_erasure_is_refused(content):
    with pytest.raises(DataError, match=r"m\.json: corrupt: its erasures are no ranges of the split 'train'"):
        parse_erasures("m.json", content, "train", 10)


def test_the_erasures_of_a_split_are_in_their_order():
    content = [
        {"splits": {"train": {"fingerprint": "a", "ranges": [[1, 2], [5, 7]]}}},
        {"splits": {"val": {"fingerprint": "b", "ranges": [[0, 1]]}}},
        {"splits": {"train": {"fingerprint": "c", "ranges": []}}},
    ]
    found = [(each.fingerprint, each.ranges.tolist()) for each in parse_erasures("m", content, "train", 10)]
    assert found == [("a", [[1, 2], [5, 7]]), ("c", [])]
