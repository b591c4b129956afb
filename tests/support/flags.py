"""The flags of a run from the words of a command line."""

from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.training.config import Preset, TrainConfig


def from_words(words):
    """The config of `jaxgpt train` with these words, without weights."""
    return parse(TrainConfig, words, TrainConfig.from_preset(parse_some(Preset, words)))
