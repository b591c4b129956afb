from pathlib import Path

import jax
import numpy as np
import pytest

from jaxgpt.errors import CheckpointError, CorruptError, RetryableError
from jaxgpt.runs import restore
from jaxgpt.runs.folder import list_steps
from jaxgpt.runs.restore import candidates, read_first_valid, require_shapes


@pytest.fixture
def folder(tmp_path):
    for name in ("3", "12", "9", "007", "4.damaged", "5.orbax-checkpoint-tmp", "notes"):
        (tmp_path / name).mkdir()
    return tmp_path


def test_checkpoints_are_named_by_their_steps_and_the_newest_comes_first(folder):
    assert list_steps(folder) == list(candidates(folder)) == [12, 9, 3]
    assert list(candidates(folder, at_most=9)) == [9, 3] and list(candidates(folder, at_most=2)) == []
    assert list_steps(folder / "nowhere") == list(candidates(folder / "nowhere")) == []


def test_one_that_appears_meanwhile_is_a_candidate_and_one_that_vanishes_is_none(folder):
    steps = candidates(folder)
    assert next(steps) == 12
    (folder / "15").mkdir()
    (folder / "9").rmdir()
    assert list(steps) == [15, 3]


def test_the_first_good_one_ends_the_search():
    asked = []

    def read(step):
        asked.append(step)
        if step > 4:
            raise CorruptError(f"{step} is corrupt")
        return f"state {step}"

    found, corrupt = read_first_valid([9, 6, 4, 2], read)
    assert found == "state 4" and asked == [9, 6, 4]
    assert {step: str(error) for step, error in corrupt.items()} == {9: "9 is corrupt", 6: "6 is corrupt"}
    found, corrupt = read_first_valid([9, 6], read)
    assert found is None and list(corrupt) == [9, 6]
    assert read_first_valid([], read) == (None, {})


def test_shapes_are_compared_before_an_array_is_made(monkeypatch):
    sharding = jax.sharding.SingleDeviceSharding(jax.devices()[0])
    like = {"a": {"value": jax.ShapeDtypeStruct((10**6, 10**6), np.float32, sharding=sharding)}}
    for stored, message in (
        ({"a.value": (3, 10**6), "b.value": (7,)}, r"^run/3 is corrupt .*\(a has the shape \(3, 1000000\), and the"),
        ({"a": (10**6, 10**6)}, r"\(a is missing, and the model that is asked for has \(1000000, 1000000\)\)$"),
    ):
        with pytest.raises(CorruptError, match=message):
            require_shapes(stored, like, Path("run/3"))
    monkeypatch.setattr(restore, "free_memory", lambda: 3e12)
    with pytest.raises(RetryableError, match=r"^out of memory: run/3 needs 4000.00 GB, and 3000.00 GB are free$"):
        require_shapes({"a.value": (10**6, 10**6)}, like, Path("run/3"))
    monkeypatch.setattr(restore, "free_memory", lambda: 5e12)
    require_shapes({"a.value": (10**6, 10**6), "b": (7,)}, like, Path("run/3"))


def test_what_is_not_corrupt_but_can_not_be_read_now_is_raised():
    def read(step):
        raise CheckpointError("no permission")

    with pytest.raises(CheckpointError, match="no permission"):
        read_first_valid([3, 2], read)
