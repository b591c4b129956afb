"""A command's output, and errors as one line and an exit code."""

import codecs
import errno
import functools
import io
import os
import sys
import threading
import unicodedata
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NoReturn

from jaxgpt.errors import JaxgptError, RetryableError

JOINERS = "\u200c\u200d"  # which letters of Persian and Hindi, and emoji, need between them
OUT_OF_MEMORY = "out of memory; give it more, or raise the limit (ulimit -v)"


def program(command: str) -> str:
    """The words that start a command, in the way in which this process was started.

    `jaxgpt sample` by the console script, which only an installed package has; else `python -m jaxgpt sample`, and
    `python train.py` by that file.
    """
    script = Path(sys.argv[0])
    if script.name == "train.py" and command == "train":
        return "python train.py"
    return f"jaxgpt {command}" if script.stem == "jaxgpt" else f"python -m jaxgpt {command}"


def run(main: Callable[[Sequence[str]], int], argv: Sequence[str]) -> int:
    """Call `main(argv)` and return its exit code; an error that the user can fix is one line on stderr."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by the parent process
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115
        elif isinstance(getattr(sys, name), io.TextIOWrapper):
            # A terminal that is not UTF-8 gets ? for what it lacks; a process that is ended has printed whole lines.
            errors = "replace" if name == "stderr" else "replace_with_note"
            getattr(sys, name).reconfigure(errors=errors, line_buffering=True)
            if os.name == "posix" and getattr(sys, name).isatty():  # Windows has a writer of its own
                setattr(sys, name, _open_terminal(getattr(sys, name)))
    try:
        return main(argv)
    except JaxgptError as error:
        return _print_error(str(error), error.exit_code)
    except BrokenPipeError:  # the reader of our output has closed it: `python train.py | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + 13
    except MemoryError:
        return _print_error(OUT_OF_MEMORY, RetryableError.exit_code)
    except RuntimeError as error:
        if "can't start new thread" not in str(error):
            raise
        return _print_error(f"{error}; raise the limits (ulimit -u, ulimit -v)", RetryableError.exit_code)
    except OSError as error:  # unforeseen elsewhere, such as a full disk
        if error.errno == errno.ENOMEM:
            return _print_error(OUT_OF_MEMORY, RetryableError.exit_code)
        return _print_error(f"{error.filename or 'output'}: {error.strerror or error}", 1)
    except UnicodeEncodeError as error:  # a name from a file, in a locale that lacks its letters
        where = f"the letter U+{ord(error.object[error.start]):04X} of a name can't be written in {error.encoding}"
        return _print_error(f"{where}; use a UTF-8 locale, such as LC_ALL=C.UTF-8, or set PYTHONUTF8=1", 2)
    except ValueError as error:
        if not _is_raised_in(error, "jax/_src/config.py"):  # which reads JAX_... variables when JAX is imported
            raise
        return _print_error(f"{error}; correct the environment variable of that name, or unset it", 2)


class _Terminal(io.FileIO):
    """A terminal. What is written when it was closed meanwhile is lost, and no error: a run shall save, and not end."""

    def write(self, content: bytes) -> int:
        try:
            return super().write(content)
        except OSError as error:
            if error.errno != errno.EIO:
                raise
            return len(content)


def _open_terminal(stream: io.TextIOWrapper) -> io.TextIOWrapper:
    buffer = io.BufferedWriter(_Terminal(stream.fileno(), "w", closefd=False))
    return io.TextIOWrapper(buffer, stream.encoding, stream.errors, line_buffering=True)


def _is_raised_in(error: Exception, file: str) -> bool:
    place = error.__traceback__
    while place.tb_next:
        place = place.tb_next
    return Path(place.tb_frame.f_code.co_filename).as_posix().endswith(file)


def _replace_with_note(error: UnicodeError) -> tuple[str | bytes, int]:
    """The "replace" of `codecs`, which says so once."""
    if isinstance(error, UnicodeEncodeError) and error.encoding.lower() != "utf-8":
        _note_lost_letters(error.encoding)
    return codecs.replace_errors(error)


@functools.cache
def _note_lost_letters(encoding: str) -> None:
    note(f"stdout is {encoding}: a letter that it lacks is printed as ?; with PYTHONIOENCODING=utf-8 none is lost")


codecs.register_error("replace_with_note", _replace_with_note)


def say(label: str, text: str) -> None:
    """Print a line of a run's output: its label, and its text."""
    print(f"{escape(label):<9} {escape(text)}", flush=True)


def note(text: str) -> None:
    """Print a remark on stderr, since stdout has only the result."""
    print("note:", escape(text), file=sys.stderr, flush=True)


def escape(text: str, keep: str = "") -> str:
    """The text with escapes, such as \\x1b, for what a terminal would act on or can't show; letters and blanks stay.

    What this package prints of names, fields and texts passes through here, so that no one who wrote these can move the
    cursor, hide words or end a line.

    Args:
      keep: characters that stay, such as newlines.
    """
    return "".join(each if _is_harmless(each, keep) else ascii(each)[1:-1] for each in text)


def _is_harmless(character: str, keep: str) -> bool:
    return character.isprintable() or character in keep + JOINERS or unicodedata.category(character) == "Zs"


def escape_for_terminal(text: str) -> str:
    """A model's text as stdout gets it: to a terminal with escapes but for newlines and tabs, elsewhere as it is."""
    return escape(text, keep="\n\t") if sys.stdout.isatty() else text


def plural(number: float, noun: str, nouns: str = "") -> str:
    """A number with its noun: 1 step, 2,000 steps; `nouns` where that is not the noun with an s."""
    return f"{number:,.10g} {noun if number == 1 else nouns or noun + 's'}"


def _print_error(message: str, exit_code: int) -> int:
    print("error:", escape(" ".join(message.split())), file=sys.stderr)
    return exit_code


def leave(exit_code: int) -> NoReturn:
    """End the process. Do not wait for orbax's threads, which never end after a failed save or restore."""
    if any(not thread.daemon for thread in threading.enumerate() if thread is not threading.main_thread()):
        sys.stdout.flush()
        os._exit(exit_code)
    sys.exit(exit_code)
