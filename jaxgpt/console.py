"""What a command prints, and from an error to one line and an exit code."""

import io
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from jaxgpt.errors import JaxgptError


def program(command: str) -> str:
    """How the user starts a command, in the way in which this process was started.

    `jaxgpt sample` by the console script, which only an installed package has; else `python -m jaxgpt sample`, and
    `python train.py` by that file.
    """
    script = Path(sys.argv[0])
    if script.name == "train.py" and command == "train":
        return "python train.py"
    return f"jaxgpt {command}" if script.stem == "jaxgpt" else f"python -m jaxgpt {command}"


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Call `main(argv)` and return its exit code; an error that the user can mend is one line on stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started us
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(getattr(sys, name), io.TextIOWrapper):  # shows ? for what a terminal that is not UTF-8 can't
            getattr(sys, name).reconfigure(errors="replace")
    try:
        return main(argv)
    except JaxgptError as error:
        return _complain(str(error), error.exit_code)
    except BrokenPipeError:  # whoever read our output has left: `python train.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except OSError as error:  # of what no room foresaw, such as an output that can't take more
        return _complain(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except KeyboardInterrupt:
        return _complain("interrupted", 128 + signal.SIGINT)


def say(label: str, text: str) -> None:
    """A line of a run's output: what it is about, and that."""
    print(f"{label:<9} {text}", flush=True)


def note(text: str) -> None:
    """A remark beside the output: on stderr, since stdout is the result alone."""
    print("note:", text, file=sys.stderr, flush=True)


def _complain(message: str, exit_code: int) -> int:
    print("error:", " ".join(message.split()), file=sys.stderr)
    return exit_code


def leave(exit_code: int) -> NoReturn:
    """End the process. After a failed save or restore orbax's threads never end; they are not waited for."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
