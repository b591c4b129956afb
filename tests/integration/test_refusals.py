"""A short form of tests/support/refusals.py: a part of its commands, in this process."""

import contextlib

from jaxgpt.runtime import device
from tests.support import refusals


def test_a_refusal_touches_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "nvidia_gpus", lambda: 0)
    with contextlib.chdir(tmp_path):
        refusals.fill(tmp_path)
        lines = refusals.quick()[::4] + refusals.WITH_JAX.strip().splitlines()[::5]
        counts, wrong = refusals.sweep(lines)
        assert wrong == [] and counts.total() == len(lines) > 40


def test_an_output_that_is_an_input_is_refused(tmp_path):
    with contextlib.chdir(tmp_path):
        refusals.fill(tmp_path)
        lines = refusals.pairs(tmp_path)[::8]
        counts, wrong = refusals.sweep(lines)
        assert wrong == [] and counts.total() == len(lines) > 60
