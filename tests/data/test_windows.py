"""Windows in their order: against one window after the other, over epochs, texts, batches and hosts."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data.order import mixture_schedule, permute
from jaxgpt.data.shards import Tokens
from jaxgpt.data.windows import next_windows, windows


def window_by_window(texts, weights, seed, T, count, n):
    """The windows of a run, one by one: the T + n tokens of each."""
    seen = [0] * len(texts)
    for k in range(count):
        i = int(mixture_schedule(np.array(k), weights)[0])
        of_epoch = (len(texts[i]) - n) // T
        epoch, number = divmod(seen[i], of_epoch)
        seen[i] += 1
        if seed is not None:
            key = (seed, epoch, i) if i else (seed, epoch)
            number = int(permute(np.array(number), of_epoch, key))
        yield [int(t) for t in texts[i][number * T : (number + 1) * T + n]]


@given(st.data())
@settings(max_examples=120, deadline=None)
def test_a_run_has_the_same_windows_with_any_batch_and_any_hosts(data):
    T, m, n = data.draw(st.integers(1, 6)), data.draw(st.integers(1, 3)), data.draw(st.integers(1, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    dtype = data.draw(st.sampled_from([np.uint16, np.uint32, np.int64]))
    texts = [rng.integers(0, 50257, T + n + int(rng.integers(0, 9 * T))).astype(dtype) for _ in range(m)]
    weights = tuple(int(w) for w in rng.integers(1, 6, m))
    seed = data.draw(st.none() | st.integers(0, 2**31 - 1))
    expected = list(window_by_window(texts, weights, seed, T, 60, n))
    if dtype == np.uint16 and data.draw(st.booleans()):  # the same tokens in shards
        texts[0] = Tokens(tuple(np.split(texts[0], sorted(rng.integers(0, len(texts[0]), 3).tolist()))))
    position, seen = 0, []
    while len(seen) < 50:
        B = data.draw(st.integers(1, 5)) * 2
        parts = [next_windows(texts, weights, position, B, T, seed, slice(i, i + B // 2), n) for i in (0, B // 2)]
        x, y, following = next_windows(texts, weights, position, B, T, seed, horizon=n)
        assert x.dtype == y.dtype == np.int32 and following == position + B * T
        assert y.shape == (x.shape if n == 1 else (n, *x.shape)) and x.shape == (B, T)
        for whole, cut in ((x, 0), (y, 1)):
            np.testing.assert_array_equal(np.concatenate([part[cut] for part in parts], axis=-2), whole)
        assert {part[2] for part in parts} == {following}
        ahead = y.reshape(n, B, T)
        whole = np.concatenate([x, *ahead[:, :, -1:]], axis=1)
        for i in range(n):
            np.testing.assert_array_equal(whole[:, i + 1 : i + 1 + T], ahead[i])
        seen += whole.tolist()
        position = following
    assert seen == expected[: len(seen)]


@pytest.mark.parametrize("N, T, B", [(161, 16, 3), (160, 16, 3), (17, 16, 5), (41, 4, 10), (100, 1, 7)])
def test_every_epoch_has_each_window_once_in_a_new_order(N, T, B):
    n, epochs = (N - 1) // T, 5
    starts = np.concatenate([windows([N], (1,), k * B * T, B, T, seed=4)[1] for k in range(-(-n * epochs // B))])
    orders = starts[: n * epochs].reshape(epochs, n)
    for epoch, order in enumerate(orders):
        assert sorted(order.tolist()) == list(range(0, n * T, T))
        np.testing.assert_array_equal(order, T * permute(np.arange(n), n, (4, epoch)))
    assert n == 1 or len({tuple(order) for order in orders.tolist()}) > 1


def test_each_text_of_a_mixture_has_its_own_epochs():
    source, starts = windows([9, 41], (1, 3), 0, 80, 4, seed=0)
    assert np.bincount(source).tolist() == [20, 60]
    for i, n in ((0, 2), (1, 10)):
        epochs = starts[source == i].reshape(-1, n)
        assert (np.sort(epochs, axis=1) == 4 * np.arange(n)).all() and len({tuple(e) for e in epochs.tolist()}) > 1


@pytest.mark.parametrize(
    "position, B, T, message",
    [
        (5, 1, 4, "position 5 is not between two windows of 4 tokens"),
        (-4, 1, 4, "position -4"),
        (0, 0, 4, "at least 1"),
        (0, 1, 9, "too few tokens for one window: 9, and T \\+ 1 = 10 are needed"),
    ],
)
def test_windows_that_do_not_exist_are_an_error(position, B, T, message):
    with pytest.raises(ValueError, match=message):
        windows([9], (1,), position, B, T, seed=0)
