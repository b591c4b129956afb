import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import GPT2Config
from jaxgpt.models.flags import ModelFlags


def test_flags_are_the_shape_and_the_rest_is_added():
    flags = ModelFlags(n_layer=5, n_head=3, n_embd=33, untied_head=True, lora=2, dropout=0.5)
    config = flags.config(predict_tokens=2, dtype="bfloat16", n_labels=4)
    assert config == GPT2Config(
        n_layer=5,
        n_head=3,
        n_embd=33,
        untied_head=True,
        lora=2,
        dropout=0.5,
        predict_tokens=2,
        dtype="bfloat16",
        n_labels=4,
    )
    assert ModelFlags().config() == GPT2Config()


def test_a_layer_that_there_is_not_is_named():
    with pytest.raises(UsageError, match=r"--lora-on mlp\.c_fc,attn\.c_atn: no layer is called 'attn\.c_atn'"):
        ModelFlags(lora_on="mlp.c_fc,attn.c_atn").config()
