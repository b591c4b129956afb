import dataclasses
from pathlib import Path

import pytest

from jaxgpt.commands.flags import parse
from jaxgpt.commands.update.config import RESERVED, UpdateConfig
from jaxgpt.errors import UsageError
from jaxgpt.training.config import TrainConfig

NEEDED = {"run": Path("a"), "data": "b", "out": Path("c")}


@pytest.mark.parametrize(
    ("flags", "error"),
    [
        ({"replay": 1.0}, "--replay 1.0 is out of range"),
        ({"replay": -0.1}, "--replay -0.1"),
        ({"replay": float("nan")}, "--replay nan"),
        ({"epochs": 0.0}, "--epochs 0.0"),
        ({"steps": 0}, "--steps 0"),
        ({"max_forgetting": -1.0}, "--max-forgetting -1.0"),
        ({"max_forgetting": float("inf")}, "--max-forgetting inf"),
        ({"gate": ("items.jsonl",)}, "--gate items.jsonl: use NAME=FILE, with the name data or choices or generate"),
        ({"gate": ("choices=",)}, "--gate choices="),
        ({"gate": ("choices=a", "choices=a")}, "--gate names a measurement twice"),
        ({"flags": ("B",)}, "--flags B: use NAME=VALUE"),
        ({"flags": ("val_also=x",)}, "--flags val_also=x: jaxgpt update sets it itself"),
        ({"flags": ("dp_epsilon=8",)}, "--flags dp_epsilon=8: texts that are mixed are not drawn"),
    ],
)
def test_a_wrong_flag_is_one_line(flags, error):
    with pytest.raises(UsageError, match=f"^{error}"):
        UpdateConfig(**NEEDED | flags)


def test_flags_are_read():
    config = parse(UpdateConfig, ["a", "--data", "b", "--out", "c", "--gate", "choices=x.jsonl", "data=y", "--steps=3"])
    assert config == dataclasses.replace(UpdateConfig(**NEEDED), gate=("choices=x.jsonl", "data=y"), steps=3)


def test_what_is_reserved_are_flags_of_train():
    assert {name.replace("-", "_") for name in RESERVED} <= TrainConfig().flat().keys()
