import dataclasses

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.models.configs import CONFIGS, GPT2Config


@pytest.mark.parametrize(
    "name", ["vocab_size", "pad_vocab_to_multiple_of", "block_size", "n_layer", "n_head", "n_embd"]
)
def test_a_size_below_1_is_named(name):
    with pytest.raises(UsageError, match=f"--{name.replace('_', '-')} 0 is out of range: it must be at least 1"):
        GPT2Config(**{name: 0})


def test_rows_of_the_padded_vocabulary():
    rows = {n: GPT2Config(pad_vocab_to_multiple_of=n).padded_vocab_size for n in (1, 128, 50257, 50258)}
    assert rows == {1: 50257, 128: 50304, 50257: 50257, 50258: 50258}


def test_adapters_are_where_they_are_named():
    config = GPT2Config(lora=2, lora_on="attn.c_attn,mlp.c_proj")
    assert [name for name in config.linear if config.adapts(name)] == ["attn.c_attn", "mlp.c_proj"]
    assert not GPT2Config(lora_on="attn.c_attn").adapts("attn.c_attn")  # of rank 0


@pytest.mark.parametrize("arch", CONFIGS)
def test_what_an_architecture_says_of_itself(arch):
    config = CONFIGS[arch](n_layer=3, n_embd=24)
    assert config.arch == arch and config.title and str(config).startswith("3 layers, ")
    assert {*config.shape, *config.sharded} <= {field.name for field in dataclasses.fields(config)}
    assert all(sizes.keys() <= {*config.shape} for sizes in config.sizes.values())
    assert {"block_size", "n_layer", "n_embd"} <= {*config.shape}
