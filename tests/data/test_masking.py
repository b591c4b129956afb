"""Masks of a text: their shares by chi-square tests, and what they depend on and what not."""

import dataclasses

import numpy as np
import pytest
from scipy.stats import chisquare

from jaxgpt.data.config import DataConfig
from jaxgpt.data.datasets import hide_tokens
from jaxgpt.data.encoder_tokenizer import for_encoder
from jaxgpt.data.masking import Masked, cut_windows, evenly_spaced, mask_row, ordinary_tokens
from jaxgpt.data.open_tokenizer import open_tokenizer
from jaxgpt.data.text import Text, Windows
from jaxgpt.errors import DataError, UsageError

TOKENIZER = for_encoder(open_tokenizer("bytes"))
MASK, V = TOKENIZER.mask, TOKENIZER.vocab_size
TOKENS = np.random.default_rng(0).integers(0, 256, 5000).astype(np.uint16)
TEXT = Text("a text", TOKENS, "f00", tokenizer=TOKENIZER, B=4, T=32)


def masked(B=4, T=32, rows=slice(None), seed=1, order_seed=None, ratio=0.15):
    return Masked(Windows((TEXT,), seed=order_seed, B=B, T=T), ratio, seed, B=B, T=T, rows=rows)


def test_one_token_at_least_is_hidden_where_one_may_be():
    """Of a short window mostly none would be, and a batch of it would have no loss."""
    ordinary = np.arange(10) > 4
    for number in range(200):
        _, targets = mask_row(np.array([0, 7, 8, 1]), 3, number, 0.01, 9, ordinary)
        assert (targets >= 0).sum() >= 1 and (targets[[0, 3]] == -1).all()
    assert (mask_row(np.array([0, 1]), 3, 0, 0.5, 9, ordinary)[1] == -1).all()


def test_the_shares_are_those_that_were_asked_for():
    """Of 409,600 positions: 15 % chosen; of these 80 % hidden, 10 % random, 10 % kept; random ids uniform."""
    ordinary = np.ones(1000, bool)
    ordinary[[0, 998, 999]] = False
    tokens = np.full(512, 500, np.int32)
    rows = [mask_row(tokens, 0, number, 0.15, 999, ordinary) for number in range(800)]
    hidden, targets = (np.stack(each) for each in zip(*rows, strict=True))
    chosen = targets >= 0
    n = chosen.size
    assert n >= 200_000 and (targets[chosen] == 500).all() and (hidden[~chosen] == 500).all()
    assert chisquare([chosen.sum(), n - chosen.sum()], [0.15 * n, 0.85 * n]).pvalue > 0.001
    became = hidden[chosen]
    kinds = np.array([(became == 999).sum(), (became == 500).sum()])
    kinds = np.array([*kinds, len(became) - kinds.sum()])
    kept = 0.1 + 0.1 / 997  # a random token may be the token itself
    assert chisquare(kinds, len(became) * np.array([0.8, kept, 0.2 - kept])).pvalue > 0.001
    counts = np.bincount(became[(became != 999) & (became != 500)], minlength=1000)
    assert counts[~ordinary].sum() == 0
    assert chisquare(counts[ordinary & (np.arange(1000) != 500)]).pvalue > 0.001
    by_column = chosen.sum(0)  # no column is chosen more often
    assert chisquare(by_column).pvalue > 0.001


def test_a_window_has_the_same_masks_in_any_batch_on_any_host_and_in_any_order():
    """Window k's masks are a function of the seed and k: also after a wrap of the text, and where a run resumes."""
    alone = []
    for k in range(400):  # 5,000 tokens are 156 windows: the text is read more than twice
        batch, following = masked(B=1).batch(k * 32)
        assert following == (k + 1) * 32
        alone.append((batch["tokens"][0], batch["targets"][0]))
    for B in (4, 8):
        for position in range(0, 400 * 32, B * 32):
            whole = masked(B).batch(position)[0]
            hosts = [masked(B, rows=slice(i, i + B // 2)).batch(position)[0] for i in (0, B // 2)]
            for name, of_alone in (("tokens", 0), ("targets", 1)):
                np.testing.assert_array_equal(np.concatenate([host[name] for host in hosts]), whole[name])
                expected = [each[of_alone] for each in alone[position // 32 : position // 32 + B]]
                np.testing.assert_array_equal(whole[name], expected)
    shuffled = masked(order_seed=7).batch(64)[0]
    assert ((shuffled["targets"] >= 0) == (np.stack([each[1] for each in alone[2:6]]) >= 0)).all()
    assert not np.array_equal(alone[0][1], alone[156][1])  # the same window in another epoch
    assert not np.array_equal(masked(seed=2).batch(0)[0]["targets"], masked().batch(0)[0]["targets"])


def test_a_window_is_framed_and_only_its_text_is_chosen():
    text = dataclasses.replace(TEXT, tokens=np.where(np.arange(5000) % 3, TOKENS, TOKENIZER.end).astype(np.uint16))
    data = Masked(Windows((text,), B=4, T=32), 0.9, 1, B=4, T=32)
    batch = data.batch(0)[0]
    assert (batch["tokens"][:, 0] == TOKENIZER.cls).all() and (batch["tokens"][:, -1] == TOKENIZER.sep).all()
    window = text.tokens[:128].reshape(4, 32)
    chosen = batch["targets"] >= 0
    assert not chosen[:, [0, -1]].any() and not chosen[window == TOKENIZER.end].any()
    np.testing.assert_array_equal(batch["targets"][chosen], window[chosen])
    assert not ordinary_tokens(TOKENIZER)[[MASK, TOKENIZER.cls, TOKENIZER.sep]].any()
    with pytest.raises(UsageError, match="--T 2: no token is left"):
        masked(T=2)


@pytest.mark.parametrize("n", [1, 130, 160])
def test_validation_hides_the_same_tokens_each_time_and_has_padding_apart(n):
    text = dataclasses.replace(TEXT, tokens=TOKENS[:n])
    data = Masked(text, 0.5, 9, B=3, T=32)
    passes = [list(data.one_pass()) for _ in range(2)]
    assert len(passes[0]) == -(-data.num_rows() // 3) and data.num_rows() == -(-n // 32)
    for one, other in zip(*passes, strict=True):
        for name, array in one.items():
            assert array.shape == (3, 32) and array.dtype == np.int32
            np.testing.assert_array_equal(array, other[name])
    targets, positions = (
        np.concatenate([each[name] for each in passes[0]]).ravel() for name in ("targets", "positions")
    )
    chosen = np.flatnonzero(targets >= 0)
    np.testing.assert_array_equal(targets[chosen], TOKENS[chosen])
    assert (chosen < n).all()
    starts = np.flatnonzero(positions == 0)  # of the windows, and of the padding behind the last one
    assert [*starts[starts <= n]] == [*range(0, n, 32)] + [n] * (n < len(targets))


def test_windows_are_spread_over_a_text():
    assert evenly_spaced(10, 4) == [0, 3, 6, 9] and evenly_spaced(3, 64) == [0, 1, 2] and evenly_spaced(9, 1) == [0]
    first, last = cut_windows(TEXT, TOKENIZER, 32, [0, 156])
    assert len(last) == 5000 - 156 * 32
    np.testing.assert_array_equal(first[1:-1], TOKENS[1:31])


def test_a_validation_text_without_a_token_to_hide_is_refused():
    with pytest.raises(DataError, match=r"val.bin: no token that may be hidden; --val needs another text"):
        hide_tokens(
            DataConfig(T=8), 0, TEXT, dataclasses.replace(TEXT, name="val.bin", tokens=np.full(100, TOKENIZER.end))
        )
