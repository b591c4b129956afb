"""The program: `jaxgpt <command>` where the package is installed, `python -m jaxgpt <command>` anywhere."""

import sys
from typing import NoReturn

from jaxgpt import signals


def main(*words: str) -> NoReturn:
    """Run the command that these words and those of the command line give, and end the process."""
    signals.exit_on_signals()
    from jaxgpt import commands, console

    console.leave(console.run(commands.main, [*words, *sys.argv[1:]]))


if __name__ == "__main__":
    main()
