"""From the command line to a config, and from an error to one line and an exit code."""

import contextlib
import functools
import io
import operator
import os
import re
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import tyro

from jaxgpt.errors import JaxgptError, UsageError

Config = TypeVar("Config")
HELP = "; --help lists the flags"  # the end of an error of a flag


def place(name: str) -> tuple[object, ...]:
    """Markers of a field that is given by its place and not by a flag: `run: Annotated[str, *console.place("RUN")]`."""
    return tyro.conf.Positional, tyro.conf.arg(metavar=name)


def subcommands(**configs: type) -> Any:
    """A type for `parse` of which the first word on the command line picks one: `subcommands(train=..., eval=...)`."""
    words = (Annotated[config, tyro.conf.subcommand(word)] for word, config in configs.items())
    return functools.reduce(operator.or_, words)


def parse(config: type[Config], argv: Sequence[str], default: Config | None = None) -> Config:
    """Read the flags of a dataclass; `--help` prints them and exits.

    Raises:
      UsageError: one line instead of tyro's box.
    """
    return _tyro(config, argv, **({} if default is None else {"default": default}))


def parse_some(config: type[Config], argv: Sequence[str]) -> Config:
    """Read only this dataclass's flags and leave the others, `--help` included, to a later `parse`."""
    known, _ = _tyro(config, [word for word in argv if word not in ("-h", "--help")], return_unknown_args=True)
    return known


def _tyro(config, argv, **options):
    box = io.StringIO()
    try:
        with contextlib.redirect_stderr(box):
            return tyro.cli(tyro.conf.OmitArgPrefixes[config], args=list(argv), prog=_program(), **options)
    except SystemExit as exit:
        if exit.code in (0, None):  # --help
            raise
        raise UsageError(_message(box.getvalue()) + HELP) from None


def _program() -> str:
    """The command as the user writes it."""
    script = Path(sys.argv[0])
    return (
        f"python -m jaxgpt.commands.{script.stem}"
        if script.parent == Path(__file__).parent / "commands"
        else f"python {script.name}"
    )


def _message(box: str) -> str:
    """What tyro's box says between its title and the first rule; the frame is Unicode or, elsewhere, dashes."""
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


@contextlib.contextmanager
def stop_signals(in_progress: str = "step") -> Iterator[list[int]]:
    """Within this context, SIGINT (Ctrl-C) and SIGTERM do no more than enter the list that it gives.

    A loop looks there where it can stop without losing work. A second signal ends the process at once.
    """
    received: list[int] = []
    message = f"\nstopping after the {in_progress} in progress; once more quits at once\n".encode()

    def receive(number: int, frame: object) -> None:
        received.append(number)
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        os.write(stderr, message)  # print is not allowed in a handler

    try:
        stderr = sys.stderr.fileno()
    except OSError:  # it is no file
        stderr = 2
    before = {number: signal.signal(number, receive) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


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
