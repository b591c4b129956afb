import math

import numpy as np

from jaxgpt.training.validation import measured, said


def parts(losses):
    """The sums of two batches."""
    return [{"loss": p.sum(), "squares": (p**2).sum(), "count": len(p)} for p in (losses[:3], losses[3:])]


def test_numbers_are_those_of_the_single_losses():
    losses = np.array([1.0, 2.5, 0.5, 4.0, 3.0])
    found = measured(parts(losses), size=13)
    assert found == {
        "loss": losses.mean(),
        "loss_stderr": np.std(losses, ddof=1) / math.sqrt(5),
        "perplexity": math.exp(losses.mean()),
        "bits_per_byte": losses.sum() / math.log(2) / 13,
        "tokens": 5,
        "bytes": 13,
    }
    assert said(found) == "loss 2.2000 ± 0.6442, perplexity 9.03, 1.2207 bits per byte"


def test_numbers_of_labels():
    losses = np.array([1.0, 2.5, 0.5, 4.0, 3.0])
    found = measured([part | {"correct": 2.0} for part in parts(losses)])
    assert (found["accuracy"], found["n"], found["loss"]) == (4 / 5, 5, 2.2) and "perplexity" not in found
    assert said(found) == "loss 2.2000 ± 0.6442, accuracy 0.8000 of 5"


def test_one_loss_has_no_spread_and_a_huge_one_no_perplexity():
    found = measured([{"loss": np.float32(1e4), "squares": np.float32(1e8), "count": np.float32(1)}], size=1)
    assert (found["loss_stderr"], found["perplexity"], found["tokens"]) == (0.0, math.inf, 1)
