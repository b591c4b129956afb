"""A command in this process, and whether it ends as each must."""

import contextlib
import io
from typing import NamedTuple

from jaxgpt import commands, console


class Ended(NamedTuple):
    code: int
    out: str
    err: str
    problem: str
    """A traceback, or not one line of "error: " where the code is not 0 and none where it is; "" if it ended well."""


def run_command(words: list[str], out: io.StringIO | None = None) -> Ended:
    """Run a command; what it prints goes to `out`, and lines of "note: " and "progress: " are no errors."""
    out, err = out or io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = console.run(commands.main, words)
        except BaseException as error:
            return Ended(-1, out.getvalue(), err.getvalue(), f"{type(error).__name__}: {error}")
    lines = [line for line in err.getvalue().splitlines() if not line.startswith(("note: ", "progress: "))]
    is_right = len(lines) == (code != 0) and all(line.startswith("error: ") for line in lines)
    return Ended(code, out.getvalue(), err.getvalue(), "" if is_right else f"code {code}, {lines}")
