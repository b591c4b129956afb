"""Train GPT-2: `python train.py --B 4 --T 32`. `--help` lists the flags. The loop is in jaxgpt/training/loop.py."""

import sys
from collections.abc import Sequence

from jaxgpt import console
from jaxgpt.errors import UsageError
from jaxgpt.runs.weights import resolve_weights
from jaxgpt.training.config import Preset, TrainConfig
from jaxgpt.training.resume import require_weights
from jaxgpt.training.run import run


def main(argv: Sequence[str]) -> int:
    preset = console.parse_some(Preset, argv)
    weights = None if preset.init_from is None else resolve_weights(preset.init_from)
    defaults = TrainConfig.from_preset(preset, weights and weights.config)
    config = console.parse(TrainConfig, argv, default=defaults)
    if weights:
        require_weights(config, weights)
    elif rank := config.model.lora:
        raise UsageError(f"--lora {rank}: adapters need weights that they adapt; name them with --init-from")
    return run(config, weights)


if __name__ == "__main__":
    console.leave(console.run(main, sys.argv[1:]))
