import numpy as np
import pytest

from jaxgpt.text import Text

TOKENS = np.random.default_rng(0).integers(0, 50257, 333).astype(np.uint16)


@pytest.mark.parametrize("B, T", [(2, 16), (3, 7), (1, 400)])
def test_every_token_but_the_first_is_predicted_once(B, T):
    text = Text("a text", TOKENS, "its hash")
    seen = []
    for x, y in text.once(B, T):
        assert x.shape == y.shape == (B, T)
        for row in range(B):
            n = int((y[row] >= 0).sum())
            assert (y[row, n:] == -1).all()
            if n:  # each window is the token before it and T more
                np.testing.assert_array_equal(np.r_[x[row, :n], y[row, n - 1]], TOKENS[len(seen) : len(seen) + n + 1])
            seen += y[row, :n].tolist()
    assert seen == TOKENS[1:].tolist()
