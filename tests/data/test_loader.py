import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaxgpt.data.loader import batches_per_epoch, next_batch


class DataLoaderLite:
    """The stateful loader of the chapter, token by token: what `next_batch` must equal."""

    def __init__(self, tokens, B, T):
        self.tokens, self.B, self.T = [int(token) for token in tokens], B, T
        self.current_position = 0

    def next_batch(self):
        x = [[0] * self.T for _ in range(self.B)]
        y = [[0] * self.T for _ in range(self.B)]
        for b in range(self.B):
            for t in range(self.T):
                at = self.current_position + b * self.T + t
                x[b][t], y[b][t] = self.tokens[at], self.tokens[at + 1]
        self.current_position += self.B * self.T
        if self.current_position + self.B * self.T + 1 > len(self.tokens):
            self.current_position = 0
        return x, y


@st.composite
def shapes(draw):
    B, T = draw(st.integers(1, 6)), draw(st.integers(1, 9))
    N = draw(st.one_of(st.integers(B * T + 1, 6 * B * T + 3), st.sampled_from([1, 2, 3]).map(lambda k: k * B * T + 1)))
    return N, B, T


def equals_the_stateful_loader(N, B, T, dtype):
    """Over two epochs and the wraps."""
    tokens = np.random.default_rng(N).integers(0, 50257, N).astype(dtype)
    reference, position = DataLoaderLite(tokens, B, T), 0
    for k in range(2 * batches_per_epoch(tokens, B, T) + 1):
        assert position == (k % batches_per_epoch(tokens, B, T)) * B * T
        x, y, position = next_batch(tokens, position, B, T)
        want_x, want_y = reference.next_batch()
        assert x.tolist() == want_x and y.tolist() == want_y
        assert position == reference.current_position
        assert x.dtype == y.dtype == np.int32 and x.shape == y.shape == (B, T)


@given(shapes(), st.sampled_from([np.uint16, np.uint32, np.int64]))
@settings(max_examples=300, deadline=None)
def test_equals_the_stateful_loader_over_two_epochs_and_the_wraps(shape, dtype):
    equals_the_stateful_loader(*shape, dtype)


@pytest.mark.parametrize("B, T", [(1, 1), (1, 2), (2, 1), (2, 2), (3, 1), (1, 4), (3, 2), (2, 3)])
def test_equals_the_stateful_loader_on_texts_of_every_length(B, T):
    for N in range(B * T + 1, 6 * B * T + 4):
        for dtype in (np.uint16, np.uint32, np.int64):
            equals_the_stateful_loader(N, B, T, dtype)


@given(shapes())
def test_the_batches_of_an_epoch_are_the_stream(shape):
    N, B, T = shape
    tokens, position, xs, ys = np.arange(N, dtype=np.uint16), 0, [], []
    count = batches_per_epoch(tokens, B, T)
    for _ in range(count):
        x, y, position = next_batch(tokens, position, B, T)
        xs.append(x.ravel())
        ys.append(y.ravel())
    assert position == 0
    assert np.array_equal(np.concatenate(xs), tokens[: count * B * T])
    assert np.array_equal(np.concatenate(ys), tokens[1 : count * B * T + 1])
    assert N - count * B * T <= B * T  # what an epoch leaves out is less than a window


@pytest.mark.parametrize("B, T, k", [(4, 32, 1), (4, 32, 5), (1, 1, 7), (3, 5, 2)])
def test_the_last_window_needs_the_token_behind_it(B, T, k):
    exact, one_more = np.arange(k * B * T), np.arange(k * B * T + 1)
    assert batches_per_epoch(one_more, B, T) == k
    if k == 1:
        with pytest.raises(ValueError, match=f"too few tokens for one batch: {B * T}, .* = {B * T + 1} are needed"):
            batches_per_epoch(exact, B, T)
    else:
        assert batches_per_epoch(exact, B, T) == k - 1


def test_is_pure(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 50257, 1000).astype(np.uint16)
    before = tokens.copy()
    tokens.flags.writeable = False
    tokens.tofile(tmp_path / "tokens.bin")
    mapped = np.memmap(tmp_path / "tokens.bin", np.uint16, mode="r")
    once, again, from_disk = (next_batch(t, 128, 4, 32) for t in (tokens, tokens, mapped))
    for a, b, c in zip(once, again, from_disk, strict=True):
        assert np.array_equal(a, b) and np.array_equal(a, c)
    assert np.array_equal(tokens, before)
    assert not np.shares_memory(once[0], tokens)


@pytest.mark.parametrize("position", [-1, 72, 10**12])
def test_a_position_without_a_window_is_an_error(position):
    with pytest.raises(ValueError, match=f"position {position} leaves no window of 129 tokens in 200"):
        next_batch(np.zeros(200, np.uint16), position, 4, 32)


@pytest.mark.parametrize("B, T", [(0, 32), (4, 0), (-1, 3)])
def test_a_batch_of_nothing_is_an_error(B, T):
    with pytest.raises(ValueError, match="at least 1"):
        next_batch(np.zeros(200, np.uint16), 0, B, T)


@given(shapes(), st.data())
def test_each_host_cuts_its_own_sequences_of_the_same_batch(shape, data):
    N, B, T = shape
    tokens = np.random.default_rng(N).integers(0, 50257, N).astype(np.uint16)
    hosts = data.draw(st.sampled_from([n for n in range(1, B + 1) if B % n == 0]))
    x, y, next_position = next_batch(tokens, 0, B, T)
    parts = [next_batch(tokens, 0, B, T, slice(i * B // hosts, (i + 1) * B // hosts)) for i in range(hosts)]
    assert np.array_equal(np.concatenate([part[0] for part in parts]), x)
    assert np.array_equal(np.concatenate([part[1] for part in parts]), y)
    assert {part[2] for part in parts} == {next_position}


# ---- Several tokens ahead


def token_by_token(tokens, B, T, n):
    """The batches of two epochs and the wraps, each token by hand: (position, x, [y of 1 ahead, of 2, ...])."""
    tokens, position = [int(token) for token in tokens], 0
    epochs = 0
    while epochs < 2:
        places = [[position + b * T + t for t in range(T)] for b in range(B)]
        ahead = [[[tokens[at + i] for at in row] for row in places] for i in range(n + 1)]
        yield position, ahead[0], ahead[1:]
        position += B * T
        if position + B * T + n > len(tokens):  # the last token that is asked for stands n behind the window
            position, epochs = 0, epochs + 1


@given(shapes(), st.integers(1, 12))
@settings(max_examples=300, deadline=None)
def test_targets_are_the_tokens_ahead_over_two_epochs_and_the_wraps(shape, n):
    N, B, T = shape
    N += n - 1
    tokens, position = np.random.default_rng(N).integers(0, 50257, N).astype(np.uint16), 0
    batches = 0
    for at, want_x, want_y in token_by_token(tokens, B, T, n):
        assert position == at
        x, y, position = next_batch(tokens, position, B, T, horizon=n)
        assert y.shape == ((B, T) if n == 1 else (n, B, T)) and x.dtype == y.dtype == np.int32
        assert x.tolist() == want_x and (y[None] if n == 1 else y).tolist() == want_y
        batches += 1
    assert position == 0 and batches == 2 * batches_per_epoch(tokens, B, T, n)


@given(shapes(), st.integers(2, 5))
def test_each_host_cuts_its_own_tokens_ahead(shape, n):
    N, B, T = shape
    tokens = np.random.default_rng(N).integers(0, 50257, N + n).astype(np.uint16)
    _, y, next_position = next_batch(tokens, 0, B, T, horizon=n)
    for row in range(B):
        _, y_of_row, position = next_batch(tokens, 0, B, T, slice(row, row + 1), n)
        assert np.array_equal(y_of_row[:, 0], y[:, row]) and position == next_position


def test_several_tokens_ahead_need_a_longer_text():
    assert batches_per_epoch(np.zeros(132, np.uint16), 4, 32, 4) == 1
    with pytest.raises(ValueError, match=r"too few tokens for one batch: 131, and B\*T \+ 4 = 4\*32 \+ 4 = 132"):
        next_batch(np.zeros(131, np.uint16), 0, 4, 32, horizon=4)
    with pytest.raises(ValueError, match="at least 1, not B=4, T=32, horizon=0"):
        next_batch(np.zeros(200, np.uint16), 0, 4, 32, horizon=0)
