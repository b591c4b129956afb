import dataclasses
import re

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import BertConfig
from tests.support.flags import from_words


def test_the_flags_of_its_shape():
    base = BertConfig()
    assert from_words(["--arch", "bert", "--size", "bert-base", "--T", "512"]).model_config() == dataclasses.replace(
        base, vocab_size=base.vocab_size
    )
    roberta = from_words(["--arch=bert", "--size", "roberta-base", "--T", "512"]).model_config()
    assert (roberta.family, roberta.position_offset, roberta.token_types, roberta.norm_eps) == ("roberta", 2, 1, 1e-5)
    assert (base.family, base.intermediate_size, base.bidirectional, base.lora_on) == (
        "bert",
        3072,
        True,
        "query,value",
    )


@pytest.mark.parametrize(
    "words, message",
    [
        (["--untied-head"], "--untied-head: the output matrix of a BERT is its token embedding; leave it out"),
        (["--predict-tokens", "2"], "--predict-tokens 2: --arch bert has no such flag"),
        (["--token-types", "0"], "--token-types 0 is out of range: it must be at least 1"),
        (["--position-offset", "-1"], "--position-offset -1 is out of range: it must be from 0 to 65,535"),
        (["--norm-eps", "0"], "--norm-eps 0.0 is out of range"),
        (["--n-embd", "100"], "--n-embd 100 can't be split over --n-head 12 heads"),
        (
            ["--lora", "2", "--lora-on", "q_proj"],
            "--lora-on q_proj: no layer is called 'q_proj'; use query",
        ),
        (["--size", "gpt2-xl"], "--size gpt2-xl: --arch bert has no such size"),
    ],
    ids=lambda value: "" if isinstance(value, str) else " ".join(value),
)
def test_a_flag_that_does_not_fit_is_named(words, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        from_words(["--arch", "bert", "--T", "512", *words])
