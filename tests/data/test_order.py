"""Computed orders: permutations against the statistics of random ones, schedules against fractions."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data.order import (
    FEW_WINDOWS,
    MAX_PERIOD,
    count_windows,
    find_windows,
    mixture_schedule,
    parse_mixture,
    permute,
    unpermute,
)
from jaxgpt.errors import UsageError


def chi_square(counts, degrees=None):
    """How many standard deviations Pearson's statistic of equally likely cells is above or below its mean."""
    counts = np.asarray(counts, np.float64).ravel()
    degrees = degrees or len(counts) - 1
    statistic = ((counts - counts.mean()) ** 2).sum() / counts.mean()
    # Wilson and Hilferty (1931): the cube root is nearly normal, also of a few degrees of freedom.
    return ((statistic / degrees) ** (1 / 3) - (1 - 2 / (9 * degrees))) / math.sqrt(2 / (9 * degrees))


LIMIT = 4.0  # chances of 1 in 30,000, and the keys are always the same


@pytest.mark.parametrize("seed", [0, 2**31 - 1])
def test_every_number_comes_once(seed):
    rng = np.random.default_rng(seed)
    sizes = [
        *range(1, 300),
        FEW_WINDOWS - 1,
        FEW_WINDOWS,
        FEW_WINDOWS + 1,
        *rng.integers(FEW_WINDOWS, 50_000, 200).tolist(),
    ]
    for epoch, n in enumerate(sizes):
        image = permute(np.arange(n), n, (seed, epoch))
        assert image.dtype == np.int64
        assert np.bincount(image, minlength=n).tolist() == [1] * n


def test_the_image_does_not_depend_on_the_shape():
    n, key = 12_345, (3, 1)
    whole = permute(np.arange(n), n, key)
    some = np.random.default_rng(0).integers(0, n, (7, 5), dtype=np.uint32)
    np.testing.assert_array_equal(permute(some, n, key), whole[some])
    assert [int(permute(np.array(i), n, key)) for i in range(20)] == whole[:20].tolist()
    assert permute(np.arange(0), n, key).shape == (0,)


def test_the_permutation_never_changes():
    """A run that resumes after an update of this program must see the windows that are left."""
    assert permute(np.arange(10), 10, (0, 0)).tolist() == [2, 3, 0, 9, 8, 5, 4, 7, 6, 1]
    assert permute(np.arange(4), 10**6, (1337, 2)).tolist() == [112255, 757085, 298950, 615592]
    huge = permute(np.arange(2) + 10**17, 2**62, (2**31 - 1, 10**6))
    assert huge.tolist() == [3385406591399509774, 4197616308086365940]


def test_it_is_a_feistel_network():
    """Computed with Python's integers: a walk through the network, until the result is below n."""
    from jaxgpt.data import order

    n, key, mask = 10_007, (5, 6), 2**64 - 1
    a, b = map(int, order._sides(n))
    keys = [int(word) for word in order._round_keys(key, order.ROUNDS)]
    assert n <= a * b < n + a and a % 2 == 0

    def walk(x):
        left, right, sizes = x % a, x // a, [a, b]
        for word in keys:
            h = (right ^ word) * 0x9E3779B97F4A7C15 & mask
            h = (h ^ h >> 32) * 0xD1342543DE82EF95 & mask
            left, right = right, (left + (h >> 32)) % sizes[0]
            sizes.reverse()
        y = left + right * sizes[0]
        return y if y < n else walk(y)

    index = np.random.default_rng(0).integers(0, n, 500)
    assert permute(index, n, key).tolist() == [walk(int(x)) for x in index]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_all_permutations_of_few_numbers_are_equally_likely(n):
    keys = 3000
    frequencies = Counter(tuple(permute(np.arange(n), n, (seed, 0)).tolist()) for seed in range(keys))
    counts = [frequencies[each] for each in itertools.permutations(range(n))]
    assert sum(counts) == keys and min(counts) > 0
    assert abs(chi_square(counts)) < LIMIT


@pytest.mark.parametrize("n, keys", [(7, 3000), (16, 3000), (40, 4000)])
def test_numbers_and_pairs_of_neighbours_are_uniform(n, keys):
    orders = np.array([permute(np.arange(n), n, (7, epoch)) for epoch in range(keys)])  # (keys, n)
    landed = np.stack([np.bincount(column, minlength=n) for column in orders.T])
    assert abs(chi_square(landed, (n - 1) ** 2)) < LIMIT  # rows and columns have the same sum
    for distance in (1, n // 2):
        pairs = np.bincount((orders * n + np.roll(orders, -distance, axis=1)).ravel(), minlength=n * n).reshape(n, n)
        assert abs(chi_square(pairs[~np.eye(n, dtype=bool)])) < LIMIT


@pytest.mark.parametrize("n", [FEW_WINDOWS, 4096, 99_999])
def test_permutations_of_many_numbers_are_uniform(n):
    """Counted by twelfths of the range: where windows land, next to which, and after which in the next epoch."""
    parts, keys = 12, 60
    orders = [permute(np.arange(n - n % parts), n, (1, epoch)) for epoch in range(keys)]
    landed, pairs, follows = (np.zeros((parts, parts)) for _ in range(3))
    for order in orders:
        to = order * parts // n
        np.add.at(landed, (np.arange(len(to)) * parts // len(to), to), 1)
        np.add.at(pairs, (to[:-1:2], to[1::2]), 1)
    for one, other in itertools.pairwise(orders):
        np.add.at(follows, (one * parts // n, other * parts // n), 1)
    assert abs(chi_square(pairs)) < LIMIT
    # Of a whole permutation the cells are more even than drawn with return, by (1 - 1/parts) in rows and columns each.
    assert chi_square(landed, (parts - 1) ** 2) < LIMIT and chi_square(follows, (parts - 1) ** 2) < LIMIT
    fixed = sum(int((order == np.arange(len(order))).sum()) for order in orders)
    assert abs(fixed - keys) < LIMIT * math.sqrt(keys)  # a drawn permutation has one fixed point, Poisson's


def test_keys_that_differ_in_a_bit_give_unrelated_orders():
    n = 5000
    keys = [(seed, epoch) for seed in (0, 1, 2, 2**30) for epoch in (0, 1, 2)] + [(0,), (0, 0, 1), (0, 0, 2)]
    orders = [permute(np.arange(n), n, key) for key in keys]
    for one, other in itertools.combinations(orders, 2):
        assert int((one == other).sum()) < 9  # 1 is expected
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(n)


# ---- Mixtures


def counted(weights, k):
    return np.bincount(mixture_schedule(np.arange(k), weights)[0], minlength=len(weights))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7).map(tuple))
@settings(max_examples=60, deadline=None)
def test_counts_follow_the_weights_to_less_than_one_window(weights):
    total, m = sum(weights), len(weights)
    k = np.arange(3 * total)
    source, number = mixture_schedule(k, weights)
    counts = np.cumsum(source[:, None] == np.arange(m), axis=0)  # after k + 1 windows
    off = np.abs(counts * total - (k[:, None] + 1) * np.array(weights))  # times total, in whole numbers
    assert (off < total).all()
    assert m == 1 or off.max() * (2 * m - 2) <= total * (2 * m - 3)  # Tijdeman's bound
    np.testing.assert_array_equal(counts[total - 1 :: total], np.outer([1, 2, 3], weights))
    for i in range(m):  # and each source's own windows come one by one
        assert number[source == i].tolist() == list(range(counts[-1, i]))


def test_the_schedule_does_not_drift():
    weights, far = (1, 2, 997), 10**15 * 1000
    source, number = mixture_schedule(np.arange(2000) + far, weights)
    near, numbers = mixture_schedule(np.arange(2000), weights)
    np.testing.assert_array_equal(source, near)
    np.testing.assert_array_equal(number - numbers, 10**15 * np.array(weights)[source])


def test_a_mixture_alternates_evenly():
    source, _ = mixture_schedule(np.arange(100), (7, 3))
    assert [int(source[k : k + 10].sum()) for k in range(91)].count(3) > 60
    assert max(len(list(run)) for _, run in itertools.groupby(source.tolist())) <= 3


@pytest.mark.parametrize(
    "mix, names, weights",
    [
        ("a=0.7,b=0.3", ("a", "b"), (7, 3)),
        ("a=2,b=1,c=1", ("a", "b", "c"), (2, 1, 1)),
        ("x=y.txt=.25,/b c/d=0.75", ("x=y.txt", "/b c/d"), (1, 3)),
        ("a=0.333,b=0.333,c=0.333", ("a", "b", "c"), (1, 1, 1)),
        ("only=5", ("only",), (1,)),
    ],
)
def test_a_mixture_is_parsed_into_names_and_whole_numbers(mix, names, weights):
    assert parse_mixture(mix) == (names, weights)
    given = [Fraction(part.rpartition("=")[2]) for part in mix.split(",")]
    assert [Fraction(weight, sum(weights)) for weight in weights] == [each / sum(given) for each in given]


def test_blanks_and_commas_belong_to_names_only_within_them():
    plain = (("a", "b"), (7, 3))
    assert parse_mixture("a=0.7, b=0.3") == parse_mixture(" a = 0.7 ,b=0.3 ") == parse_mixture("a=7,b=3") == plain
    assert parse_mixture("one, two.txt=1,x, y=1") == (("one, two.txt", "x, y"), (1, 1))


@pytest.mark.parametrize(
    "mix, message",
    [
        ("", "'' is no text with its weight"),
        ("a", "'a' is no text with its weight; give a.txt=0.7,b.txt=0.3, each weight above 0"),
        ("a=1,", "'' is no text with its weight"),
        ("=1", "'=1' is no text"),
        ("a=0", "'a=0' is no text with its weight"),
        ("a=0.0,b=1", "'a=0.0' is no text"),
        ("a=-1,b=1", "'a=-1' is no text"),
        ("a=nan", "'a=nan' is no text"),
        ("a=1e99999999", "'a=1e99999999' is no text"),
        ("a=1,b=2,a=3", "a is named twice"),
        ("a=0.123456789,b=1", f"parts of 1,123,456,789, and {MAX_PERIOD:,} parts are the most; round them"),
    ],
)
def test_an_invalid_mixture_is_a_one_line_error(mix, message):
    with pytest.raises(UsageError) as raised:
        parse_mixture(mix)
    assert message in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("n", [1, 2, 3, 5, 50, FEW_WINDOWS - 1, FEW_WINDOWS, 12_345, 2**40])
def test_a_permutation_is_undone(n):
    index = np.arange(n) if n < 2**20 else np.random.default_rng(0).integers(0, n, (9, 11))
    for key in ((0, 0), (7, 3), (7, 3, 1)):
        np.testing.assert_array_equal(unpermute(permute(index, n, key), n, key), index)


@given(st.lists(st.integers(1, 9), min_size=1, max_size=4))
def test_a_schedule_is_undone(weights):
    window = np.arange(5 * sum(weights) + 3)
    source, number = mixture_schedule(window, tuple(weights))
    for i in range(len(weights)):
        np.testing.assert_array_equal(find_windows(i, number[source == i], tuple(weights)), window[source == i])
        counts = [count_windows(i, k, tuple(weights)) for k in window.tolist()]
        assert counts == [int((source[:k] == i).sum()) for k in window.tolist()]
