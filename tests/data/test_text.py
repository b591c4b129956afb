import dataclasses

import numpy as np
import pytest

from jaxgpt.data.text import Text, Windows

TOKENS = np.random.default_rng(0).integers(0, 50257, 333).astype(np.uint16)


@pytest.mark.parametrize("B, T", [(2, 16), (3, 7), (1, 400)])
def test_every_token_but_the_first_is_predicted_once(B, T):
    text = Text("a text", TOKENS, "its hash", B=B, T=T)
    seen = []
    for batch in text.one_pass():
        x, y = batch["tokens"], batch["targets"]
        assert x.shape == y.shape == (B, T)
        for row in range(B):
            n = int((y[row] >= 0).sum())
            assert (y[row, n:] == -1).all()
            if n:  # each window is the token before it and T more
                np.testing.assert_array_equal(np.r_[x[row, :n], y[row, n - 1]], TOKENS[len(seen) : len(seen) + n + 1])
            seen += y[row, :n].tolist()
    assert seen == TOKENS[1:].tolist()


@pytest.mark.parametrize("B, T", [(2, 16), (3, 7), (1, 400)])
def test_tokens_further_ahead_are_those_that_there_are(B, T):
    """Of n tokens ahead the last few have none: y is -1 there, and the next token is what it is with a horizon of 1."""
    place = 0
    passes = (Text("", TOKENS, "", B=B, T=T, horizon=n).one_pass() for n in (4, 1))
    for batch, plain in zip(*passes, strict=True):
        x, y = batch["tokens"], batch["targets"]
        assert y.shape == (B, 4, T) and x.dtype == y.dtype == np.int32
        np.testing.assert_array_equal(x, plain["tokens"])
        np.testing.assert_array_equal(y[:, 0], plain["targets"])
        for row in range(B):
            for t in range(T):
                following = TOKENS[place + 1 : place + 5].tolist() if place < len(TOKENS) - 1 else []
                assert y[row, :, t].tolist() == following + [-1] * (4 - len(following))
                place += 1


@pytest.mark.parametrize("of_windows", [False, True])
def test_a_step_gets_the_sequences_first(of_windows):
    text = Text("", TOKENS, "", B=4, T=8, horizon=3)
    data = Windows((text,), seed=1, B=4, T=8) if of_windows else text
    batch, _ = data.batch(32)
    x, y = batch["tokens"], batch["targets"]
    assert y.shape == (4, 3, 8)
    for row, (_, start) in enumerate(data.locate(32)):
        for i in range(3):
            assert y[row, i].tolist() == TOKENS[start + 1 + i : start + 9 + i].tolist()
    half, _ = dataclasses.replace(data, rows=slice(2, 4)).batch(32)
    np.testing.assert_array_equal(half["tokens"], x[2:])
    np.testing.assert_array_equal(half["targets"], y[2:])
    of_epoch = (len(TOKENS) - 3) / 32
    assert data.batches_per_epoch() == (pytest.approx(int(of_epoch * 4) / 4) if of_windows else int(of_epoch))


def test_a_position_is_left_where_the_last_token_ahead_is_missing():
    for n in (1, 4):
        text = Text("", TOKENS[: 64 + n], "", B=2, T=16, horizon=n)
        assert (text.resume_position(32), text.resume_position(33)) == (32, 0)
        with pytest.raises(ValueError, match="position 33, outside of the text"):
            text.locate(33)
