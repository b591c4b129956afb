import pytest

from jaxgpt.commands.glue.config import GlueConfig
from jaxgpt.errors import UsageError


def test_flags_are_those_of_train():
    config = GlueConfig("data", "gpt2", flags=("lr=1e-3", "weight_decay=0", "lora-on=a,b=c"))
    assert config.chosen_flags == {"lr": "1e-3", "weight-decay": "0", "lora-on": "a,b=c"}


@pytest.mark.parametrize("word", ["lr", "=3", "lr=", "seed=1", "init_from=gpt2"])
def test_other_flags_are_refused(word):
    with pytest.raises(UsageError, match=f"--flags {word}: "):
        GlueConfig("data", "gpt2", flags=(word,))
