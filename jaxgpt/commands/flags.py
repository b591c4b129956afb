"""From the words of a command line to a frozen dataclass, or to an error of one line."""

import contextlib
import io
import re
from collections.abc import Sequence
from typing import TypeVar

import tyro

from jaxgpt import console
from jaxgpt.errors import UsageError

Config = TypeVar("Config")
HELP = "; --help lists the flags"  # the end of an error of a flag


def positional(name: str) -> tuple[object, ...]:
    """Markers of a positional argument: `run: Annotated[str, *flags.positional("RUN")]`."""
    return tyro.conf.Positional, tyro.conf.arg(metavar=name)


def parse(config: type[Config], argv: Sequence[str], default: Config | None = None, command: str = "") -> Config:
    """Read the flags of a dataclass; `--help` prints them and exits.

    Args:
      default: the values of flags that are not given; None: the dataclass's defaults.
      command: its name, for `--help`; by default the Python file that was started.

    Raises:
      UsageError: one line instead of tyro's box.
    """
    options = {} if default is None else {"default": default}
    return _run_tyro(config, argv, prog=console.program(command) if command else None, **options)


def parse_some(config: type[Config], argv: Sequence[str]) -> Config:
    """Read only this dataclass's flags and leave the others, `--help` included, to a later `parse`."""
    known, _ = _run_tyro(config, [word for word in argv if word not in ("-h", "--help")], return_unknown_args=True)
    return known


def _run_tyro(config, argv, **options):
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(tyro.conf.OmitArgPrefixes[config], args=list(argv), **options)
    except SystemExit as exit:
        if exit.code in (0, None):  # --help
            raise
        raise UsageError(_extract_message(box.getvalue()) + HELP) from None


def _extract_message(box: str) -> str:
    """The text in tyro's box between its title and the first rule; the frame is Unicode or, elsewhere, dashes."""
    if "Missing from" in box:  # then it lists the arguments, each with the whole of its help
        arguments = re.split("───|---", box[box.index("Missing from") :])[0]
        return "not given: " + ", ".join(re.findall(r"^[│ ] {5}(\S.*?) *│?$", arguments, re.MULTILINE))
    words: list[str] = []
    for line in box.splitlines()[1:]:
        text = line.strip("╭╮╰╯│─ ")
        if text.strip("-"):
            words += text.split()
        elif words:
            break
    return " ".join(words).rstrip(". ")
