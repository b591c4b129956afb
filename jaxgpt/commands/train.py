"""Train a model: `jaxgpt train --B 4 --T 32`. The loop is in jaxgpt/training/loop.py."""

from collections.abc import Sequence

from jaxgpt.commands.flags import name_of, parse, parse_some, read_words
from jaxgpt.data.examples import require_labels
from jaxgpt.data.open_tokenizer import NAMES
from jaxgpt.errors import UsageError
from jaxgpt.runs.weights import WeightsRef, resolve_weights
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.resume import require_weights
from jaxgpt.training.run import run


def name_tokenizer(weights: WeightsRef) -> str:
    """What --tokenizer has for the tokenizer of some weights."""
    tokenizer = weights.tokenizer
    return next((name for name, known in NAMES.items() if known == tokenizer), str(weights.folder))


def main(argv: Sequence[str]) -> int:
    return run(*read_config(argv))


def read_config(argv: Sequence[str]) -> tuple[TrainConfig, WeightsRef | None]:
    """The flags, with the defaults that --size, --recipe and --init-from set, and the weights of --init-from.

    Raises:
      JaxgptError: one is wrong, or does not fit another one.
    """
    argv = read_words(TrainConfig, argv)
    given = set(map(name_of, argv))
    preset = parse_some(Preset, argv)
    weights = None if preset.init_from is None else resolve_weights(preset.init_from)
    if weights and "arch" in given and preset.arch != weights.config.arch:
        has = weights.config.arch
        raise UsageError(f"--arch {preset.arch}: --init-from {preset.init_from} has {has}; leave --arch out")
    defaults = TrainConfig.from_preset(preset, weights and weights.config)
    if weights:
        defaults = defaults.replace(tokenizer=name_tokenizer(weights))
    if "steps" in given:  # a recipe's --epochs gives way
        defaults = defaults.replace(epochs=None)
    config = parse(TrainConfig, argv, default=defaults, command="train")
    config.rollout.require_objective(config)
    if config.privacy.is_private and "order" in given:
        config.privacy.refuse_order(config.data.order)
    if "steps" in given and config.run.epochs is not None:
        raise UsageError("--steps and --epochs both say how long the run is; leave one out")
    if weights:
        require_weights(config, weights.config)
    elif rank := config.model.lora:
        raise UsageError(f"--lora {rank}: adapters need weights that they adapt; name them with --init-from")
    elif preset.recipe in ("finetune", "classify"):
        raise UsageError(f"--recipe {preset.recipe}: it needs weights that were trained; name them with --init-from")
    if preset.recipe == "classify":
        require_labels(config.data.data, config.fields)
    return config, weights
