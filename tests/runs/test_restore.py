import pytest

from jaxgpt.errors import CheckpointError, CorruptError
from jaxgpt.runs.restore import candidates, list_steps, read_first_valid


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


def test_what_is_not_corrupt_but_can_not_be_read_now_is_raised():
    def read(step):
        raise CheckpointError("no permission")

    with pytest.raises(CheckpointError, match="no permission"):
        read_first_valid([3, 2], read)
