"""A short form of tests/support/escapes.py, in this process."""

import contextlib

import pytest

from jaxgpt.runtime import device
from tests.support import escapes


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """The folder of the sweep, as the current one, and the names in it before they were hostile."""
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    (tmp_path / "filled").mkdir()  # beside the cache
    with contextlib.chdir(tmp_path / "filled"):
        yield escapes.fill(tmp_path / "filled")


def test_no_error_has_what_a_terminal_acts_on(filled):
    counts, wrong = escapes.sweep(tried := escapes.quick(filled)[::5])
    assert wrong == [] and counts.total() == len(tried) > 40


@pytest.mark.slow
def test_no_result_has_what_a_terminal_acts_on(filled):
    train, *lines = escapes.WITH_JAX.strip().splitlines()
    shown = ("sample run", "evaluate run{e} --data", "evaluate named", "prepare evil", "inspect folder", "replay run")
    tried = [train, *(line for line in lines if line.startswith(shown))]
    counts, wrong = escapes.sweep(map(escapes.split, tried))
    assert wrong == [] and counts == dict.fromkeys((f"{line.split()[0]} 0" for line in tried), 1) | {"evaluate 0": 2}
