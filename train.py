"""Train GPT-2: `python train.py --B 4 --T 32`. `--help` lists the flags. The loop is in jaxgpt/loop.py."""

import sys
from collections.abc import Sequence

from jaxgpt import cli
from jaxgpt.config import Preset, TrainConfig
from jaxgpt.errors import UsageError
from jaxgpt.identity import require_weights
from jaxgpt.loop import run
from jaxgpt.source import find


def main(argv: Sequence[str]) -> int:
    preset = cli.parse_some(Preset, argv)
    weights = None if preset.init_from is None else find(preset.init_from)
    defaults = TrainConfig.from_preset(preset, weights and weights.config)
    config = cli.parse(TrainConfig, argv, default=defaults)
    if weights:
        require_weights(config, weights)
    elif config.lora:
        raise UsageError(f"--lora {config.lora}: adapters need weights that they adapt; name them with --init-from")
    return run(config, weights)


if __name__ == "__main__":
    cli.leave(cli.run(main, sys.argv[1:]))
