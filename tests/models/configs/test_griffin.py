import re

import jax
import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.base import shapes
from jaxgpt.models.configs import GriffinConfig
from tests.support.flags import from_words


def size_of(*words):
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(from_words([*words]).model_config())))


def test_the_flags_of_its_shape():
    config = from_words(["--arch", "griffin"]).model_config()
    assert config == GriffinConfig() and (config.intermediate_size, config.lru_width) == (2304, 768)
    words = ["--pattern", "ar", "--lru-width", "32", "--window", "9", "--logits-soft-cap", "0", "--n-kv-head", "2"]
    given = from_words(["--arch", "griffin", "--size", "tiny", *words, "--recipe", "gpt3"]).model_config()
    shape = {"pattern": "ar", "lru_width": 32, "window": 9, "logits_soft_cap": 0.0, "n_kv_head": 2}
    assert given == GriffinConfig(n_layer=3, n_head=2, n_embd=64, **shape)
    assert from_words(["--arch", "griffin", "--lora", "2"]).model_config().adapts("linear_x")


def test_two_sizes_have_as_many_parameters_as_gpt2():
    counts = {arch: size_of("--arch", arch, "--size", size) for arch, size in NEAR_GPT2.items()}
    assert counts == {"gpt2": 124_439_808, "griffin": 122_506_752, "gated_cnn": 124_095_744}


NEAR_GPT2 = {"gpt2": "gpt2", "griffin": "griffin-124m", "gated_cnn": "gated-cnn-124m"}


@pytest.mark.parametrize(
    "words, message",
    [
        (["--predict-tokens", "2"], "--predict-tokens 2: --arch griffin has no such flag"),
        (["--head-size", "2"], "--head-size 2: --arch griffin has no such flag"),
        (["--pattern", "rx"], "--pattern 'rx': use r, a recurrent layer, and a, attention; such as rra"),
        (["--pattern", ""], "--pattern '': use r"),
        (["--n-kv-head", "5"], "--n-head 12 can't be split over --n-kv-head 5 heads of keys and values"),
        (["--lru-width", "100"], "--lru-width 100 can't be split over --n-head 12 blocks of its gates: use a multiple"),
        (["--window", "0"], "--window 0 is out of range: it must be at least 1"),
        (["--logits-soft-cap", "-1"], "--logits-soft-cap -1.0 is out of range: it must be a finite number, 0 or above"),
        (["--lora", "2", "--lora-on", "c_attn"], "--lora-on c_attn: no layer is called 'c_attn'; use linear_x"),
        (["--probe", "induction"], "--probe induction reads the heads of a GPT-2"),
        (["--B", "5", "--mesh", "fsdp=5"], "--n-embd 768 must be divisible by the fsdp axis"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_does_not_fit_is_named(words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        from_words(["--arch", "griffin", *words])
