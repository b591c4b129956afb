"""A short form of tests/support/refusals.py, in this process."""

import contextlib

import pytest

from jaxgpt.runtime import device
from tests.support import refusals


@pytest.fixture
def filled(tmp_path, monkeypatch):
    """The folder of the sweeps, as the current one."""
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    (tmp_path / "filled").mkdir()  # beside the cache
    refusals.fill(tmp_path / "filled")
    with contextlib.chdir(tmp_path / "filled"):
        yield tmp_path / "filled"


def test_a_refusal_touches_nothing(filled):
    counts, wrong = refusals.sweep(lines := refusals.quick()[::6])
    assert wrong == [] and counts.total() == len(lines) > 30


def test_what_an_encoder_has_not_is_refused(filled):
    lines = [line for line in refusals.quick() if {"bert", "encoder", "--max-windows"} & {*line.split()}]
    counts, wrong = refusals.sweep(lines)
    assert wrong == [] and counts.total() == len(lines) == 18


def test_an_output_that_is_an_input_is_refused(filled):
    counts, wrong = refusals.sweep(lines := refusals.pairs(filled)[::16])
    assert wrong == [] and counts.total() == len(lines) > 40


@pytest.mark.slow
def test_a_refusal_that_takes_jax_touches_nothing_either(filled):
    counts, wrong = refusals.sweep(lines := refusals.WITH_JAX.strip().splitlines())
    assert wrong == [] and counts.total() == len(lines) > 20
