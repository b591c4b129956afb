import threading

import pytest

from jaxgpt.errors import RetryableError
from jaxgpt.runtime import process_number
from jaxgpt.runtime.process_number import claim


def never(error):
    raise AssertionError(error)


@pytest.fixture(autouse=True)
def forget(monkeypatch):
    """What a process holds to its end."""
    held = []
    monkeypatch.setattr(process_number, "_held", held)
    yield
    for file in held:
        file.close()


def test_a_second_process_with_a_number_is_refused_and_those_that_wait_are_told(tmp_path):
    out, told = tmp_path / "runs" / "one", {id: threading.Event() for id in (0, 1)}
    says = {}

    def leave(id):
        return lambda error: (says.setdefault(id, str(error)), told[id].set())

    with claim(out, 0, leave(0)), claim(out, 1, leave(1)):
        with pytest.raises(RetryableError) as refused, claim(out, 1, never):
            raise AssertionError("it was taken")
        assert str(refused.value) == (
            "--process-id 1: another process of this run has that number; start all of them again, "
            "each with its own --process-id"
        )
        assert all(event.wait(10) for event in told.values())
    assert set(says.values()) == {
        "two processes of this run have the same number; start all of them again, each with its own --process-id"
    }


def test_a_run_that_has_begun_goes_on(tmp_path):
    """Its processes have met; a number is theirs to their end, and what is refused then ends none of them."""
    with claim(tmp_path, 0, never):
        pass
    with pytest.raises(RetryableError, match="--process-id 0: another process of this run"), claim(tmp_path, 0, never):
        pass
    process_number._held.pop().close()  # its end
    for _ in range(2):  # the next start is not told of the mistake of the one before
        with claim(tmp_path, 0, never), claim(tmp_path, 1, never):
            threading.Event().wait(2 * process_number.POLL_S)
        while process_number._held:
            process_number._held.pop().close()


def test_a_folder_that_can_not_be_written_is_no_matter_here(tmp_path):
    (tmp_path / "file").touch()
    with claim(tmp_path / "file" / "out", 0, never), claim(tmp_path / "file" / "out", 0, never):
        pass
