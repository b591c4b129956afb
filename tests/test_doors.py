"""A model, a loss, a kind of data and a command from outside of the package: a file and a line in a table for each."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

ROOT = Path(__file__).parent.parent

MODEL = '''
"""A bigram model: the hidden state is the token's embedding."""
import dataclasses
from typing import ClassVar

from jaxgpt.models import layers
from jaxgpt.models.configs import ModelConfig

@dataclasses.dataclass(frozen=True)
class BigramConfig(ModelConfig):
    scale: int = 1
    """The embedding is multiplied by this."""
    arch: ClassVar[str] = "bigram"
    module: ClassVar[str] = "bigram"
    title: ClassVar[str] = "bigram model"
    shape: ClassVar[tuple[str, ...]] = ("block_size", "n_layer", "n_embd", "scale")

class Bigram(layers.Module):
    STACKS = ()

    def __init__(self, config, key):
        self.config, rngs = config, layers.Rngs(key)
        self.wte, self.lm_head = layers.vocabulary(config, rngs), layers.vocabulary(config, rngs)

    def hidden(self, tokens, positions=None, keys=None):
        return self.config.scale * self.wte(tokens)

    def unembedding(self):
        return self.lm_head.embedding[...]

    def init_cache(self, B, length):
        return ()

    def decode(self, tokens, cache, column, count=None):
        return self.hidden(tokens), cache

MODEL, SHARDING_RULES = Bigram, layers.SHARDING_RULES
'''

LOSS = '''
"""How far the hidden state is from 1 below the target's, squared."""
import jax.numpy as jnp
from jaxgpt.objectives.base import Objective

def loss(model, batch, keys):
    counted = batch["targets"] >= 0
    distance = ((model.hidden(batch["tokens"], keys=keys) + 1 - model.hidden(batch["targets"])) ** 2).sum(-1)
    count = counted.sum(dtype=jnp.float32)
    return {"loss": (jnp.where(counted, distance, 0).sum(), count), "rows": (count, jnp.float32(len(counted)))}

OBJECTIVE = Objective("distance", "pairs", loss)
'''

DATA = '''
"""{"before", "after"}: two words, the second of which follows the first."""
import numpy as np
from jaxgpt.data.base import ExampleKind
from jaxgpt.data.records import require_text

def parse(where, record):
    return [(require_text(where, record, "before"), False), (require_text(where, record, "after"), True)]

def tabulate(path, examples, T, labels):
    x, y = np.zeros((len(examples), T), np.uint16), np.full((len(examples), T), -1, np.int32)
    x[:, 0], y[:, 0] = (examples.tokens[examples.starts[segment]] for segment in (examples.first, examples.end - 1))
    return {"tokens": x, "targets": y}, []

KIND = ExampleKind("pairs", ("before", "after"), parse, tabulate)
'''

COMMAND = '''
"""Greets."""
def main(argv):
    print("hello", *argv)
    return 0
'''

MAIN = """
import sys
import bigram, distance, pairs
from jaxgpt.commands import COMMANDS, main
from jaxgpt.data.formats import KINDS
from jaxgpt.models.configs import CONFIGS
from jaxgpt.objectives import OBJECTIVES

CONFIGS["bigram"] = bigram.BigramConfig
OBJECTIVES["distance"] = distance.OBJECTIVE
KINDS.append(pairs.KIND)
COMMANDS["greet"] = ("greet", "greet somebody")

from jaxgpt import console
for words in sys.stdin.read().splitlines():
    code = console.run(main, words.split())
    assert code == 0, (words, code)
"""


@pytest.fixture(scope="module")
def outside(tmp_path_factory):
    """The folder in which the commands ran, and what they printed."""
    folder = tmp_path_factory.mktemp("outside")
    files = {"bigram": MODEL, "distance": LOSS, "pairs": DATA, "greet": COMMAND, "main": MAIN}
    for name, text in files.items():
        (folder / f"{name}.py").write_text(text)
    pairs = [{"before": before, "after": after} for before, after in [("a", "b"), ("c", "d"), ("e", "f"), ("g", "h")]]
    (folder / "pairs.jsonl").write_text("".join(json.dumps(pair) + "\n" for pair in pairs))
    (folder / "text.txt").write_text("one two three " * 40)
    train = "train --arch bigram --n-embd 8 --block-size 16 --B 2 --T 4 --lr 0.1 --device cpu"
    commands = [
        "greet world",
        f"{train} --scale 2 --data pairs.jsonl --out pairs --steps 3 --val pairs.jsonl",
        f"{train} --scale 2 --data pairs.jsonl --out pairs --steps 40 --val pairs.jsonl",
        f"{train} --data text.txt --out text --steps 2",
        "sample text --prompt one --max-new-tokens 3",
    ]
    environment = os.environ | {"PYTHONPATH": f"{ROOT}{os.pathsep}{folder}", "JAXGPT_CACHE": str(folder)}
    done = subprocess.run(
        [sys.executable, folder / "main.py"],
        input="\n".join(commands),
        capture_output=True,
        text=True,
        cwd=folder,
        env=environment,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder, done.stdout


def rows(folder):
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_a_command(outside):
    assert outside[1].startswith("hello world\n")


def test_a_model_trains_on_a_text_and_writes(outside):
    folder, printed = outside
    assert "804,112 parameters: 12 layers, width 8, float32" in printed  # two tables of 50257 * 8
    (first, _) = rows(folder / "text")
    assert "\none " in printed  # the prompt, and what follows
    assert first["loss"] == pytest.approx(np.log(50257), abs=0.1)


def test_a_loss_learns_a_kind_of_data_resumes_and_is_validated(outside):
    folder, printed = outside
    log = rows(folder / "pairs")
    assert [row["step"] for row in log] == [*range(40)]
    assert log[-1]["loss"] < log[0]["loss"] / 10
    assert {row["rows"] for row in log} == {1.0}  # one target a row: a metric that no file of the package knows
    assert log[-1]["val_loss"] < log[0]["loss"] / 10
    assert "4 examples of pairs, in 4 rows" in printed
    assert json.loads((folder / "pairs" / "config.json").read_text())["scale"] == 2
