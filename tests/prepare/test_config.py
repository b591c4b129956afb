import dataclasses
import re
from pathlib import Path

import pytest

from jaxgpt.errors import UsageError
from jaxgpt.prepare.config import PrepareConfig

GOOD = PrepareConfig(inputs=("text",), out=Path("out"))


def test_without_flags_exact_copies_are_dropped_and_a_hundredth_is_held_out():
    assert (GOOD.clean, GOOD.dedup, GOOD.val, GOOD.pii) == (("unicode", "controls"), "exact", 0.01, "off")
    assert GOOD.workers >= 1 and GOOD.index and not GOOD.fresh


@pytest.mark.parametrize(
    "flags, message",
    [
        ({"val": 0.6}, "--val 0.6 is out of range: it must be from 0 to 0.5"),
        ({"canaries": -1}, "--canaries -1 is out of range: it must be from 0 to 100,000"),
        ({"workers": 0}, "--workers 0 is out of range: it must be from 1 to 4,096"),
        ({"shard_tokens": 2**31}, "--shard-tokens 2147483648 is out of range"),
        ({"seed": -1}, "--seed -1 is out of range"),
        ({"min_chars": 9, "max_chars": 8}, "--min-chars 9 is above --max-chars 8: nothing would be left"),
        ({"clean": ("none", "c4")}, "--clean none stands alone; leave it out, or the other steps"),
        ({"against": Path("x"), "dedup": "none"}, "--against needs --dedup exact or minhash"),
        ({"pii_names": "en_core_web_sm"}, "--pii-names needs --pii report, replace or drop"),
        ({"sbatch": ("partition=cpu", "cpu")}, "--sbatch cpu: use NAME=VALUE, such as partition=cpu"),
        ({"sbatch": ("partition=cpu",)}, "--sbatch needs --executor slurm"),
    ],
    ids=str,
)
def test_what_can_not_be_is_named(flags, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        dataclasses.replace(GOOD, **flags)
