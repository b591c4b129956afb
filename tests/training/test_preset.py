from typing import get_args, get_type_hints

from jaxgpt.models.configs import CONFIGS
from jaxgpt.training.config import OptimizerConfig
from jaxgpt.training.preset import GPT3_LR, Preset
from tests.support.flags import from_words


def test_sizes_and_recipes_set_defaults_that_flags_override():
    config = from_words(["--lr", "1e-3", "--n-layer=5", "--recipe", "gpt3", "--size", "gpt2-xl"])
    assert (config.model.n_layer, config.model.n_head, config.model.n_embd) == (5, 25, 1600)
    assert config.optimizer == OptimizerConfig(
        1e-3, "cosine", 0.0375, 0.1, beta2=0.95, weight_decay=0.1, decay="matrices", grad_clip=1.0
    )
    assert from_words(["--recipe", "gpt3", "--size", "gpt2-medium"]).optimizer.lr == 3e-4
    sizes = {size for config in CONFIGS.values() for size in config.sizes}
    assert sizes == {*get_args(get_type_hints(Preset)["size"])} == GPT3_LR.keys()
