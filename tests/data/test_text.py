import dataclasses

import numpy as np
import pytest

from jaxgpt.data.redaction import Erasure, merge
from jaxgpt.data.shards import Tokens
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


# ---- Erased tokens

ERASED = {*range(40, 75), 90}  # 75 is the end token of the next document, 91 a token of the same
END = 50256


def erased_text(horizon=1, B=4, T=8):
    tokens = np.where(TOKENS == END, 0, TOKENS)
    tokens[[*ERASED, 39, 75]] = END
    erasures = (Erasure("before", merge([(40, 75)])), Erasure("later", merge([(90, 91)])))
    shards = tuple(np.split(tokens, [50, 90]))
    return Text("", Tokens(shards, "now", erasures), "now", B=B, T=T, horizon=horizon), tokens


def expected_targets(tokens, start, horizon, T):
    """Of a sequence, token by token: (horizon, T), -1 for what is not learned."""

    def target(number):
        is_erased = number in ERASED or number == 75
        return -1 if is_erased or number >= len(tokens) else int(tokens[number])

    return [[target(start + 1 + i + t) for t in range(T)] for i in range(horizon)]


@pytest.mark.parametrize("horizon", [1, 3])
@pytest.mark.parametrize("order", ["sequential", "windows", "shuffled", "mixed"])
def test_erased_tokens_are_no_targets(order, horizon):
    text, tokens = erased_text(horizon)
    plain = Text("plain", TOKENS, "", B=4, T=8, horizon=horizon)
    data = {
        "sequential": text,
        "windows": Windows((text,), B=4, T=8),
        "shuffled": Windows((text,), seed=3, B=4, T=8),
        "mixed": Windows((plain, text), (2, 3), 3, "a mixture", B=4, T=8),
    }[order]
    position, masked = 0, 0
    for _ in range(20):
        for rows in (slice(None), slice(1, 3)):
            part = dataclasses.replace(data, rows=rows)
            batch, following = part.batch(position)
            places = data.locate(position)[rows] if isinstance(data, Text) else part.locate(position)
            for x, y, (name, start) in zip(batch["tokens"], batch["targets"], places, strict=True):
                source = TOKENS if name else tokens
                assert x.tolist() == source[start : start + 8].tolist()
                targets = expected_targets(source if name else tokens, start, horizon, 8)
                if name:
                    targets = [source[start + 1 + i : start + 9 + i].tolist() for i in range(horizon)]
                assert y.reshape(horizon, 8).tolist() == targets
                masked += sum(target < 0 for row in targets for target in row)
        position = following
    assert masked > 60


@pytest.mark.parametrize("horizon", [1, 3])
def test_a_validation_counts_no_erased_token(horizon):
    text, tokens = erased_text(horizon)
    batches = list(text.one_pass())
    for number, batch in enumerate(batches):
        for row in range(4):
            start = 32 * number + 8 * row
            expected = expected_targets(tokens, start, horizon, 8)
            assert batch["targets"][row].reshape(horizon, 8).tolist() == expected
    counted = sum(int((batch["targets"].reshape(4, horizon, 8)[:, 0] >= 0).sum()) for batch in batches)
    assert counted == len(TOKENS) - 1 - len(ERASED) - 1
    kept = [token for number, token in enumerate(tokens.tolist()) if number not in ERASED and token != END]
    assert text.num_bytes() == len(text.tokenizer.decode_bytes(kept))  # so that bits per byte are those of the rest
