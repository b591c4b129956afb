"""The time of a token that is written, early and late in a text, by architecture: a recurrent state stays as it is.

python -m benchmarks.decode

The models are those of architectures_speed.toml with random weights. One text is continued greedily, by the sampler of
`jaxgpt sample`, 32 tokens at a time; the first 32 are not timed.
"""

import dataclasses
import itertools
import os
import statistics
import time
import tomllib
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import jax
import tyro

from jaxgpt.inference.generate import stream
from jaxgpt.inference.sampling import make_sampling_params
from jaxgpt.models.base import build
from jaxgpt.models.configs import CONFIGS

SPEC = Path(__file__).parent / "architectures_speed.toml"
CHUNK, CHUNKS = 32, 5  # tokens that are timed at once, and how often


@dataclasses.dataclass
class Flags:
    """Time how a text is continued."""

    lengths: tuple[int, ...] = (32, 256, 1024)
    """Tokens that are there before."""
    rounds: int = 9
    """How often, each model and length in turn."""


def main(flags: Flags) -> None:
    spec = tomllib.loads(SPEC.read_text())
    models, times = {}, {}
    for name, row in spec["rows"].items():
        shape = {key: value for key, value in (spec["flags"] | row).items() if key in ("n_embd", "block_size")} | row
        config = CONFIGS[shape.pop("arch", "gpt2")](vocab_size=65, **shape)
        models[name] = jax.jit(build, static_argnums=0)(config, jax.random.key(0))
    for _ in range(flags.rounds):
        for name, model in models.items():
            for length in flags.lengths:
                times.setdefault((name, length), []).extend(times_of_a_token(model, length))
    print(f"ms a token, {jax.devices()[0].device_kind}, {os.cpu_count()} cores, medians of {flags.rounds}\n")
    print("| | " + " | ".join(f"after {length:,} tokens" for length in flags.lengths) + " |")
    print("|---" * (1 + len(flags.lengths)) + "|")
    for name in models:
        medians = (statistics.median(times[name, length]) for length in flags.lengths)
        print(f"| {name} | " + " | ".join(f"{ms:.2f}" for ms in medians) + " |")


def times_of_a_token(model: object, length: int) -> list[float]:
    """In ms, of each chunk of tokens after `length` others but the first, which compiles and reads these."""
    prompt = [token % 65 for token in range(length)]
    ends = [
        time.perf_counter() for _ in stream(model, [prompt], CHUNK * CHUNKS, make_sampling_params(0), chunk_size=CHUNK)
    ]
    return [1e3 * (end - start) / CHUNK for start, end in itertools.pairwise(ends)]


if __name__ == "__main__":
    main(tyro.cli(Flags))
