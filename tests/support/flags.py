"""The flags of a run from the words of a command line."""

from jaxgpt.commands.flags import parse, parse_some
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset


def from_words(words):
    """The config of `jaxgpt train` with these words, without weights."""
    return parse(TrainConfig, words, TrainConfig.from_preset(parse_some(Preset, words)))
