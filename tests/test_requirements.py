"""requirements.txt: which versions it admits."""

import importlib.metadata
import platform
from pathlib import Path

import pytest
from packaging.requirements import Requirement

LINES = (Path(__file__).parent.parent / "requirements.txt").read_text().splitlines()
BOUNDS = [Requirement(line) for line in (line.partition("#")[0].strip() for line in LINES) if line]
JAX = ("0.10.1", "0.10.2", "0.11.0", "0.11.1", "0.11.2", "0.12.0", "0.12.0.1")
FLAX = ("0.12.7", "0.12.8", "0.12.9", "0.12.10", "0.12.12")


def admits(name, version, python, system="linux"):
    where = {"python_version": python, "sys_platform": system}
    bounds = [bound for bound in BOUNDS if bound.name == name and (not bound.marker or bound.marker.evaluate(where))]
    assert len(bounds) == 1, f"{name} has {len(bounds)} lines for Python {python} on {system}"
    return bounds[0].specifier.contains(version)


@pytest.mark.parametrize("system", ["linux", "darwin", "win32"])
@pytest.mark.parametrize(
    "python, pair",
    [("3.11", ("0.10.2", "0.12.8")), ("3.12", ("0.12.0.1", "0.12.12")), ("3.13", ("0.12.0.1", "0.12.12"))],
)
def test_a_python_takes_the_pair_of_jax_and_flax_that_was_tested_with_it(python, pair, system):
    """Of the versions that there are; jax 0.11.1 with flax 0.12.8, which does not import, is for no Python."""
    jaxes = [version for version in JAX if admits("jax", version, python, system)]
    flaxes = [version for version in FLAX if admits("flax", version, python, system)]
    assert (jaxes, flaxes) == ([pair[0]], [pair[1]])


def test_what_is_installed_here_is_admitted():
    python = ".".join(platform.python_version_tuple()[:2])
    for name in {bound.name for bound in BOUNDS}:
        version = importlib.metadata.version(name)
        assert admits(name, version, python), f"{name} {version}"
