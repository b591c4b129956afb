"""Flags of bias that have nothing to measure, or are out of range."""

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.training.config import TrainConfig, unobserved


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"bias_every": -1, "bias": "a"}, "--bias-every -1 is out of range"),
        ({"max_bias": float("inf"), "bias": "a"}, "--max-bias inf is out of range"),
        ({"bias_every": 5}, "--bias-every has nothing to measure; name a file with --bias or --bias-text"),
        ({"max_bias": 0.0}, "--max-bias has nothing to measure"),
        ({"bias": "a", "swaps": "b"}, "--swaps changes nothing without --bias-text; leave it out"),
        ({"arch": "bert", "bias_text": "a"}, "--bias-text: --arch bert is an encoder, which takes pairs: --bias"),
    ],
)
def test_wrong_flags_are_refused(flags, message):
    with pytest.raises(UsageError, match=message):
        TrainConfig.of(**flags)


def test_they_only_observe():
    flags = {"bias": "a", "bias_text": "b", "swaps": "c", "bias_every": 3, "max_bias": 0.5}
    assert unobserved(TrainConfig.of(**flags)) == TrainConfig.of()
