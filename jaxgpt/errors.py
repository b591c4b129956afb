"""Errors that a user can fix, and their exit codes.

A message is one line: the problem, its location, and the remedy; console.run prints it. Any other exception is a bug.
"""

from typing import Any


class JaxgptError(Exception):
    """Base class: an error that the user can fix."""

    exit_code = 1


class UsageError(JaxgptError):
    """Wrong flag, configuration or device."""

    exit_code = 2


class DataError(JaxgptError):
    """A corpus that is missing, corrupt, too short or in another format."""

    exit_code = 3


class CheckpointError(JaxgptError):
    """A checkpoint that can't be written, read, or resumed with these flags."""

    exit_code = 4


class CorruptError(CheckpointError):
    """A checkpoint that is incomplete, unreadable, or differs from what was saved."""


class RetryableError(JaxgptError):
    """A later or smaller try may succeed: out of memory, or the run folder is in use."""

    exit_code = 75


class GateError(JaxgptError):
    """A measurement is worse than what was allowed."""

    exit_code = 6


class NumericsError(JaxgptError):
    """The loss is no longer a finite number."""

    exit_code = 5


def require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """Raise UsageError for a flag's value unless it `holds`; `name` is its field, `allowed` its range in words."""
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} {value} is out of range: it must be {allowed}")
