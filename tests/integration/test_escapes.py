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
    counts, wrong = escapes.sweep(tried := escapes.quick(filled)[::3])
    assert wrong == [] and counts.total() == len(tried) > 60


@pytest.mark.slow
def test_no_result_has_what_a_terminal_acts_on(filled):
    lines = [line for line in escapes.WITH_JAX.strip().splitlines() if not line.startswith("train --")]
    counts, wrong = escapes.sweep(map(escapes.split, lines[:1] + lines[5:]))
    assert wrong == [] and counts["train 0"] == 1 and sum(counts[key] for key in counts if key.endswith(" 0")) > 9
