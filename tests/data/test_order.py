"""Orders that are computed: permutations against what drawn ones would do, schedules against fractions."""

import itertools
import math
from collections import Counter
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data.order import FEW, LONGEST, mixed, permuted, shares
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
    sizes = [*range(1, 300), FEW - 1, FEW, FEW + 1, *rng.integers(FEW, 50_000, 200).tolist()]
    for epoch, n in enumerate(sizes):
        found = permuted(np.arange(n), n, (seed, epoch))
        assert found.dtype == np.int64
        assert np.bincount(found, minlength=n).tolist() == [1] * n


def test_it_is_the_same_however_it_is_asked():
    n, key = 12_345, (3, 1)
    whole = permuted(np.arange(n), n, key)
    some = np.random.default_rng(0).integers(0, n, (7, 5), dtype=np.uint32)
    np.testing.assert_array_equal(permuted(some, n, key), whole[some])
    assert [int(permuted(np.array(i), n, key)) for i in range(20)] == whole[:20].tolist()
    assert permuted(np.arange(0), n, key).shape == (0,)


def test_it_is_fixed_for_ever():
    """A run that goes on after an update of this program must meet the windows that are left."""
    assert permuted(np.arange(10), 10, (0, 0)).tolist() == [2, 3, 0, 9, 8, 5, 4, 7, 6, 1]
    assert permuted(np.arange(4), 10**6, (1337, 2)).tolist() == [112255, 757085, 298950, 615592]
    huge = permuted(np.arange(2) + 10**17, 2**62, (2**31 - 1, 10**6))
    assert huge.tolist() == [3385406591399509774, 4197616308086365940]


def test_it_is_the_network_that_it_says():
    """By hand, in Python's integers: a walk through a Feistel network, until it is inside."""
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
    assert permuted(index, n, key).tolist() == [walk(int(x)) for x in index]


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_of_few_numbers_all_permutations_are_as_likely(n):
    keys = 3000
    found = Counter(tuple(permuted(np.arange(n), n, (seed, 0)).tolist()) for seed in range(keys))
    counts = [found[each] for each in itertools.permutations(range(n))]
    assert sum(counts) == keys and min(counts) > 0
    assert abs(chi_square(counts)) < LIMIT


@pytest.mark.parametrize("n, keys", [(7, 3000), (16, 3000), (40, 4000)])
def test_each_number_lands_everywhere_alike_and_so_do_two_neighbours(n, keys):
    found = np.array([permuted(np.arange(n), n, (7, epoch)) for epoch in range(keys)])  # (keys, n)
    landed = np.stack([np.bincount(column, minlength=n) for column in found.T])
    assert abs(chi_square(landed, (n - 1) ** 2)) < LIMIT  # rows and columns have the same sum
    for distance in (1, n // 2):
        pairs = np.bincount((found * n + np.roll(found, -distance, axis=1)).ravel(), minlength=n * n).reshape(n, n)
        assert abs(chi_square(pairs[~np.eye(n, dtype=bool)])) < LIMIT


@pytest.mark.parametrize("n", [FEW, 4096, 99_999])
def test_of_many_numbers_too(n):
    """In 12 equal parts of the range: where windows of each part land, with which neighbours, and after which."""
    parts, keys = 12, 60
    found = [permuted(np.arange(n - n % parts), n, (1, epoch)) for epoch in range(keys)]
    landed, pairs, follows = (np.zeros((parts, parts)) for _ in range(3))
    for order in found:
        to = order * parts // n
        np.add.at(landed, (np.arange(len(to)) * parts // len(to), to), 1)
        np.add.at(pairs, (to[:-1:2], to[1::2]), 1)
    for one, other in itertools.pairwise(found):
        np.add.at(follows, (one * parts // n, other * parts // n), 1)
    assert abs(chi_square(pairs)) < LIMIT
    # Of a whole permutation the cells are more even than drawn with return, by (1 - 1/parts) in rows and columns each.
    assert chi_square(landed, (parts - 1) ** 2) < LIMIT and chi_square(follows, (parts - 1) ** 2) < LIMIT
    fixed = sum(int((order == np.arange(len(order))).sum()) for order in found)
    assert abs(fixed - keys) < LIMIT * math.sqrt(keys)  # a drawn permutation has one fixed point, Poisson's


def test_keys_that_differ_in_a_bit_give_orders_that_have_nothing_in_common():
    n = 5000
    keys = [(seed, epoch) for seed in (0, 1, 2, 2**30) for epoch in (0, 1, 2)] + [(0,), (0, 0, 1), (0, 0, 2)]
    orders = [permuted(np.arange(n), n, key) for key in keys]
    for one, other in itertools.combinations(orders, 2):
        assert int((one == other).sum()) < 9  # 1 is expected
        assert abs(np.corrcoef(one, other)[0, 1]) < 5 / math.sqrt(n)


# ---- Mixtures


def counted(weights, k):
    return np.bincount(mixed(np.arange(k), weights)[0], minlength=len(weights))


@given(st.lists(st.integers(1, 40), min_size=1, max_size=7).map(tuple))
@settings(max_examples=60, deadline=None)
def test_counts_follow_the_weights_to_less_than_one_window(weights):
    total, m = sum(weights), len(weights)
    k = np.arange(3 * total)
    source, number = mixed(k, weights)
    counts = np.cumsum(source[:, None] == np.arange(m), axis=0)  # after k + 1 windows
    off = np.abs(counts * total - (k[:, None] + 1) * np.array(weights))  # times total, in whole numbers
    assert (off < total).all()
    assert m == 1 or off.max() * (2 * m - 2) <= total * (2 * m - 3)  # Tijdeman's bound
    np.testing.assert_array_equal(counts[total - 1 :: total], np.outer([1, 2, 3], weights))
    for i in range(m):  # and each source's own windows come one by one
        assert number[source == i].tolist() == list(range(counts[-1, i]))


def test_after_very_many_windows_nothing_has_drifted():
    weights, far = (1, 2, 997), 10**15 * 1000
    source, number = mixed(np.arange(2000) + far, weights)
    near, numbers = mixed(np.arange(2000), weights)
    np.testing.assert_array_equal(source, near)
    np.testing.assert_array_equal(number - numbers, 10**15 * np.array(weights)[source])


def test_a_mixture_is_even_and_not_in_blocks():
    source, _ = mixed(np.arange(100), (7, 3))
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
def test_a_mix_is_names_and_whole_numbers(mix, names, weights):
    assert shares(mix) == (names, weights)
    given = [Fraction(part.rpartition("=")[2]) for part in mix.split(",")]
    assert [Fraction(weight, sum(weights)) for weight in weights] == [each / sum(given) for each in given]


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
        ("a=0.123456789,b=1", f"parts of 1,123,456,789, and {LONGEST:,} parts are the most; round them"),
    ],
)
def test_what_is_no_mix_is_one_line(mix, message):
    with pytest.raises(UsageError) as raised:
        shares(mix)
    assert message in str(raised.value) and "\n" not in str(raised.value)
