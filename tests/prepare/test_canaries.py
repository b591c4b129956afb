"""Canaries: what is planted, and what is no folder of them."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from jaxgpt.errors import DataError, UsageError
from jaxgpt.prepare import canaries


def test_what_is_planted_depends_on_the_seed_alone():
    planted = canaries.plant(300, 7)
    assert planted == canaries.plant(301, 7)[:300] and planted != canaries.plant(300, 8)
    assert [each.repeats for each in planted[:5]] == [1, 4, 16, 1, 4]
    secret = str(int(hashlib.sha256(b"canary 7 0").hexdigest(), 16))[-9:]
    assert planted[0] == canaries.Canary(f"My locker code is {' '.join(secret)}.", secret, 1)
    assert len({each.secret for each in planted}) == 300 and canaries.plant(0, 7) == []
    # Each digit at each place as often as another: chi-square with 9 degrees of freedom, 99.9 % quantile 27.9.
    drawn = np.array([list(each) for each in canaries.make_secrets("many", 5000)], int)
    for place in drawn.T:
        assert ((np.bincount(place, minlength=10) - 500) ** 2 / 500).sum() < 27.9
    with pytest.raises(UsageError, match="-1 canaries are out of range"):
        canaries.plant(-1, 0)


GOOD = dataclasses.asdict(canaries.plant(1, 0)[0])


@pytest.mark.parametrize(
    "content, message",
    [
        (None, "canaries.json: no such file; --canaries takes a folder that"),
        ("[{", "canaries.json: can't be read"),
        ("[]", "no canaries in it"),
        ('{"text": 1}', "no canaries in it"),
        (json.dumps([GOOD, 3]), "canary 2: is not {text, secret, repeats}"),
        (json.dumps([GOOD | {"repeats": "1"}]), "canary 1: is not {text"),
        (json.dumps([GOOD | {"secret": "12"}]), "canary 1: its secret is not 9 digits"),
        (json.dumps([GOOD | {"text": "My code"}]), "canary 1: its text is not that of its secret"),
        (json.dumps([GOOD | {"repeats": 0}]), "canary 1: its text is not"),
    ],
)
def test_what_is_no_folder_of_canaries_is_one_line(tmp_path, content, message):
    if content is not None:
        (tmp_path / "canaries.json").write_text(content)
    with pytest.raises(DataError) as caught:
        canaries.read(tmp_path)
    assert message in str(caught.value) and "\n" not in str(caught.value)
