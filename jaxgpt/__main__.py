"""The program: `jaxgpt <command>` where the package is installed, `python -m jaxgpt <command>` anywhere."""

import sys
from typing import NoReturn

from jaxgpt import commands, console


def main() -> NoReturn:
    console.leave(console.run(commands.main, sys.argv[1:]))


if __name__ == "__main__":
    main()
