"""What can go wrong for a user, and the exit code of each.

A message is one line that says what is wrong, where, and what to do: console.run prints it. Any other is a bug.
"""

from typing import Any


class JaxgptError(Exception):
    """Base class: an error that the user can mend."""

    exit_code = 1


class UsageError(JaxgptError):
    """Wrong flag, configuration or device."""

    exit_code = 2


class DataError(JaxgptError):
    """A corpus that is missing, damaged, too short or not what it claims to be."""

    exit_code = 3


class CheckpointError(JaxgptError):
    """A checkpoint that can't be written, read, or continued with these flags."""

    exit_code = 4


class CorruptError(CheckpointError):
    """A checkpoint that is incomplete, unreadable, or not what was saved."""


class RetryableError(JaxgptError):
    """Nothing is wrong but the moment or the size: out of memory, or the run folder is in use."""

    exit_code = 75


class NumericsError(JaxgptError):
    """The loss is no longer a finite number."""

    exit_code = 5


def require(holds: bool, name: str, value: Any, allowed: str) -> None:
    """Refuse a flag's value; `name` is its field, `allowed` says what it may be."""
    if not holds:
        raise UsageError(f"--{name.replace('_', '-')} {value} is out of range: it must be {allowed}")
