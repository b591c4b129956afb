"""The time and memory of a private step beside the plain one: steps of each, interleaved, in one process.

python benchmarks/privacy.py --size gpt2 --B 4 --T 64

The memory is XLA's plan of the step: the state, its arguments, and what lives only within it.
"""

import argparse
import dataclasses
import functools
import statistics
import time

import jax
import jax.numpy as jnp

from jaxgpt.data import corpus
from jaxgpt.data.poisson import Poisson, row_units
from jaxgpt.data.text import Text
from jaxgpt.models.base import build
from jaxgpt.models.configs import ModelConfig
from jaxgpt.models.lora import partition
from jaxgpt.runtime import allocator, device
from jaxgpt.training.config import TrainConfig
from jaxgpt.training.preset import Preset
from jaxgpt.training.privacy import make_noise
from jaxgpt.training.setup import build_trainer
from jaxgpt.training.step import FrozenInputs

VARIANTS = {  # flags
    "plain": {},
    "plain, --accumulate B": {"accumulate": None},
    "private, --dp-microbatch 1": {"dp_epsilon": 8.0},
    "private, --dp-microbatch 4": {"dp_epsilon": 8.0, "dp_microbatch": 4},
    "plain, --lora 8": {"lora": 8},
    "private, --lora 8, --dp-microbatch 4": {"dp_epsilon": 8.0, "dp_microbatch": 4, "lora": 8},
}


def random_frozen(model: ModelConfig, is_private: bool, B: int) -> FrozenInputs:
    """What a step reads, with random weights under adapters, and noise."""
    _, base = partition(build(model, jax.random.key(1)))
    noise = make_noise(jnp.array([1, 2], jnp.uint32), jnp.float32(1), jnp.float32(B)) if is_private else None
    return FrozenInputs(base, None, noise)


class Variant:
    """A compiled step and its state."""

    def __init__(self, name: str, flags: dict, size: str, B: int, T: int):
        accumulate = B if "accumulate" in flags else 1
        flags = {key: value for key, value in flags.items() if key != "accumulate"}
        config = TrainConfig.from_preset(Preset(size=size)).replace(T=T, **flags)
        self.config = config.replace(B=B // accumulate, accumulate=accumulate)
        self.name, trainer = name, build_trainer(self.config)
        data = Text(**vars(corpus.load()), B=B, T=T)
        if config.privacy.is_private:  # every step is to have B rows, as a plain one: all of B are drawn
            data = dataclasses.replace(data, tokens=data.tokens[: B * (T + 1)])
            data = Poisson(data, bytes(16), row_units(data), 1, 1, config.privacy.dp_microbatch, B=B)
        self.state = trainer.init_state(seed=0)
        self.frozen = jax.jit(functools.partial(random_frozen, trainer.model, config.privacy.is_private, B))()
        self.batch = device.put(data.batch(0)[0])
        self.step = trainer.step.lower(self.state, self.batch, self.frozen).compile()
        plan = self.step.memory_analysis()
        self.bytes = plan.argument_size_in_bytes + device.extra_bytes(plan)
        self.seconds: list[float] = []

    def run(self) -> None:
        start = time.perf_counter()
        self.state, _ = jax.block_until_ready(self.step(self.state, self.batch, self.frozen))
        self.seconds.append(time.perf_counter() - start)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="gpt2")
    parser.add_argument("--B", type=int, default=4, help="rows of a step")
    parser.add_argument("--T", type=int, default=64)
    parser.add_argument("--rounds", type=int, default=5)
    flags = parser.parse_args()
    allocator.use_one_heap()
    name = device.select("auto")
    if jax.default_backend() == "cpu":  # as a run does
        allocator.keep_freed_memory()
    variants = [Variant(each, options, flags.size, flags.B, flags.T) for each, options in VARIANTS.items()]
    for _ in range(flags.rounds + 1):
        for variant in variants:
            variant.run()
    print(f"{flags.size}, {flags.B} rows of {flags.T} tokens, {name}; medians of {flags.rounds}\n")
    print("| step | ms | of plain | GB |\n|---|---|---|---|")
    medians = [statistics.median(each.seconds[1:]) for each in variants]
    for variant, seconds in zip(variants, medians, strict=True):
        print(f"| {variant.name} | {1000 * seconds:,.0f} | {seconds / medians[0]:.2f} | {variant.bytes / 1e9:.2f} |")


if __name__ == "__main__":
    main()
