import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import SIZES, GPT2Config


def test_heads_share_the_width():
    with pytest.raises(UsageError, match="--n-embd 768 can't be split over --n-head 7"):
        GPT2Config(n_head=7)
    assert all(size["n_embd"] % size["n_head"] == 0 for size in SIZES.values())


def test_every_token_takes_a_block_and_the_trunk_one_at_least():
    assert [GPT2Config(predict_tokens=n).depth for n in (1, 2, 4, 11)] == [12, 11, 9, 2]
    assert GPT2Config(n_layer=1).depth == 1
    for n in (0, -1, 12, 13):
        with pytest.raises(UsageError, match=f"--predict-tokens {n} is out of range: it must be 1, or below --n-l"):
            GPT2Config(predict_tokens=n)


def test_a_model_in_a_line():
    assert str(GPT2Config()) == "12 layers, 12 heads, width 768"
    assert str(GPT2Config(predict_tokens=4)) == (
        "12 layers (a trunk of 8, and one for each of the next tokens), 12 heads, width 768"
    )
