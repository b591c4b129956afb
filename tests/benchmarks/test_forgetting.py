"""The languages are what they are said to be; and what an update forgets, with and without replay."""

import collections
import contextlib
import itertools

import numpy as np
import pytest

from benchmarks import forgetting
from jaxgpt import commands, console


def test_each_letter_is_followed_by_one_of_four(tmp_path):
    forgetting.make_texts(tmp_path, 3, 50_000)
    old, new = ((tmp_path / f"{name}.txt").read_text() for name in ("old", "new"))
    assert {*old} == {*"abcdefghijkl"} and {*new} == {*"ABCDEFGHIJKL"} and len(old) == len(new) == 50_000
    for text in (old, new):
        shares = collections.defaultdict(list)
        pairs = collections.Counter(itertools.pairwise(text))
        letters = collections.Counter(text[:-1])
        for (first, _), count in pairs.items():
            shares[first].append(count / letters[first])
        assert min(letters.values()) > 0.9 * max(letters.values())
        for letter, found in shares.items():
            assert sorted(found, reverse=True) == pytest.approx(
                forgetting.PROBABILITIES, abs=4 * 0.5 / letters[letter] ** 0.5
            )
    p = np.array(forgetting.PROBABILITIES)
    assert -(p * np.log(p)).sum() == pytest.approx(1.1097, abs=5e-5)


def run_here(folder, codes, *words):
    """forgetting.run, in this process: three starts and their programs cost as much as the training."""
    with contextlib.chdir(folder):
        code = console.run(commands.main, [*map(str, words)])
    assert code in codes
    return code


@pytest.mark.slow
def test_five_percent_of_the_old_text_keep_the_old_loss(tmp_path, monkeypatch, optimized):
    """What docs/maintenance.md says of longer runs on longer texts."""
    monkeypatch.setattr(forgetting, "run", run_here)
    rows = forgetting.main(forgetting.Flags(tmp_path, seeds=1, letters=60_000, steps=150))
    for without, with_replay in zip(rows[::2], rows[1::2], strict=True):
        assert without["rise"][0] > 0.2 and without["gate"] == "refused, code 6"
        assert with_replay["rise"][0] + 2 * with_replay["rise"][1] < 0.02 and with_replay["gate"] == "promoted"
        assert abs(with_replay["new after"] - without["new after"]) < 0.02
