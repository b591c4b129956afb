"""From the command line to a config, and from an error to one line and an exit code."""

import contextlib
import io
import os
import sys
from collections.abc import Callable, Sequence
from typing import TypeVar

import tyro

from jaxgpt.errors import JaxgptError, UsageError

Config = TypeVar("Config")


def parse(config: type[Config], argv: Sequence[str], default: Config | None = None) -> Config:
    """Read the flags of a dataclass; `--help` prints them and exits.

    Raises:
      UsageError: one line instead of tyro's box.
    """
    return _tyro(config, argv, default=default)


def parse_some(config: type[Config], argv: Sequence[str]) -> Config:
    """Read only this dataclass's flags and leave the others, `--help` included, to a later `parse`."""
    known, _ = _tyro(config, [word for word in argv if word not in ("-h", "--help")], return_unknown_args=True)
    return known


def _tyro(config, argv, **options):
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(config, args=list(argv), **options)
    except SystemExit as exit:
        if exit.code in (0, None):  # --help
            raise
        raise UsageError(f"{_message(box.getvalue())}; --help lists the flags") from None


def _message(box: str) -> str:
    """What tyro's box says between its title and the first rule; the frame is Unicode or, elsewhere, dashes."""
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("╭╮╰╯│─ ")
        if text.strip("-"):
            words += text.split()
        elif words:
            break
    return " ".join(words).rstrip(". ")


def run(main: Callable[[Sequence[str]], None], argv: Sequence[str]) -> int:
    """Call `main(argv)` and return the exit code; an error that the user can mend is one line on stderr."""
    try:
        main(argv)
    except JaxgptError as error:
        print("error:", " ".join(str(error).split()), file=sys.stderr)
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted; the same command goes on from the last checkpoint", file=sys.stderr)
        return 128 + 2
    except BrokenPipeError:  # whoever read our output has left: `python train.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    return 0
