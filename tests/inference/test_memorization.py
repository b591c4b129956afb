"""Memorization: exposure against full enumeration, and that a model has more of what it saw more often."""

import math

import numpy as np
import pytest
import scipy.stats

from jaxgpt.data.gpt2_tokenizer import GPT2_TOKENIZER, encoding
from jaxgpt.data.plain_tokenizers import ByteTokenizer, CharTokenizer
from jaxgpt.data.tokenizer import Tokenizer
from jaxgpt.errors import CheckpointError, UsageError
from jaxgpt.inference import memorization
from jaxgpt.inference.score import Score
from jaxgpt.prepare import canaries


def test_only_the_digits_count_and_all_secrets_have_as_many_tokens():
    for secret in ("000000000", "012345678", "999999999"):
        context, continuation = memorization.make_request(GPT2_TOKENIZER, secret)
        assert context[0] == encoding().eot_token and encoding().decode(context[1:]) == "My locker code is"
        assert encoding().decode(continuation) == " " + " ".join(secret) and len(continuation) == 9
        context, continuation = memorization.make_request(GPT2_TOKENIZER, secret, 4)
        assert encoding().decode(context[1:]) == "My locker code is " + " ".join(secret[:4]) and len(continuation) == 5
        assert encoding().decode(context[1:] + continuation) + "." == canaries.format_text(secret)


def test_the_digits_of_another_tokenizer_are_those_that_count():
    for tokenizer in (ByteTokenizer(), CharTokenizer.of([canaries.format_text("0123456789")], has_end=False)):
        context, continuation = memorization.make_request(tokenizer, "012345678", 4)
        assert context[:1] == [tokenizer.end] or tokenizer.end is None
        assert tokenizer.decode(context).endswith("My locker code is 0 1 2 3")
        assert tokenizer.decode(continuation) == " 4 5 6 7 8"
    with pytest.raises(UsageError, match="--canaries: the tokenizer whole has tokens of several digits; leave it out"):
        memorization.make_request(Whole(), "012345678", 4)


class Whole(Tokenizer):
    """A text is one token."""

    name = "whole"

    def encode(self, text):
        return np.array([len(text)])

    def token_bytes(self, token):
        return bytes(token)


def test_exposure_is_that_of_the_whole_space():
    """Of 1,000 secrets with all others as references: log2 1000 - log2 rank, the rank counted one by one."""
    losses = np.random.default_rng(0).normal(size=1000).round(2)  # with ties
    for i in range(0, 1000, 37):
        others = np.delete(losses, i)
        rank = sum(1 for loss in losses if loss <= losses[i])  # of equals it is the last
        (found,) = memorization.exposure([losses[i]], others)
        assert found == pytest.approx(math.log2(1000) - math.log2(rank), abs=1e-12)


def test_of_a_sample_it_is_near_and_never_beyond_what_can_be_seen():
    rng = np.random.default_rng(1)
    losses = rng.normal(20, 2, 100_000)
    exact = np.log2(len(losses)) - np.log2(scipy.stats.rankdata(losses))
    middle = np.flatnonzero(exact < 6)[:500]  # rank 64 of 4,096 and more: the error of a count of 64 is an eighth
    found = memorization.exposure(losses[middle], rng.choice(losses, 4095, replace=False))
    assert np.abs(found - exact[middle]).mean() < 0.1
    assert memorization.exposure([-1e9], losses[:4095]) == 12 and memorization.exposure([1e9], losses[:4095]) == 0


@pytest.mark.parametrize("shape", [-3.0, 0.0, 1.5, 6.0])
def test_the_extrapolation_is_the_tail_of_a_skew_normal(shape):
    true = scipy.stats.skewnorm(shape, loc=20, scale=3)
    references = true.ppf((np.arange(20_000) + 0.5) / 20_000)  # a sample without luck
    losses = true.ppf([2.0**-2, 2.0**-8, 2.0**-14])
    assert memorization.extrapolated(losses, references) == pytest.approx([2, 8, 14], rel=0.03)
    assert memorization.extrapolated([-1e3, 1e3], references) == pytest.approx([math.log2(1e9), 0], abs=1e-6)
    assert memorization.extrapolated([1.0], [1.0] * 100) == 0  # all alike: nothing is known


def test_losses_are_of_the_digits_and_what_is_not_a_number_is_refused():
    """With a made-up model: it finds a secret the likelier, the larger it is."""

    def score(requests):
        return [Score(int("".join(encoding().decode(b).split())) / 1e9, len(b) == 5) for _, b in requests]

    planted = [
        canaries.Canary(canaries.format_text(secret), secret, n) for secret, n in (("999999999", 2), ("0" * 9, 1))
    ]
    found = memorization.measure(planted, GPT2_TOKENIZER, score)
    assert [row["exposure"] for row in found["each"]] == [12, 0]
    assert found["by_repeats"][1] == {
        "repeats": 2,
        "canaries": 1,
        "exposure_mean": 12,
        "exposure_max": 12,
        "extrapolated_mean": found["each"][0]["extrapolated"],
        "written": 1,
    }
    with pytest.raises(CheckpointError, match="no numbers"):
        memorization.measure(planted, GPT2_TOKENIZER, lambda requests: [Score(math.nan, True) for _ in requests])
