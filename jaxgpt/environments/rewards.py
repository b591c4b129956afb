"""Rewards: a function of a prompt, an answer and the prompt's record; a user's own in a file, or one of four here."""

import contextlib
import dataclasses
import decimal
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from jaxgpt.errors import DataError, UsageError

RewardFunction = Callable[[str, str, dict[str, Any]], float]  # of a prompt, an answer and the prompt's record
FORMS = "FILE.py:FUNCTION, exact:FIELD, number:FIELD, regex:PATTERN or length:N"
# A comma separates thousands, a minus is a sign where no digit or letter is before it. Exponents are short, as a model
# may write any: no Decimal overflows.
NUMBER = re.compile(
    r"(?:(?<!\w)[-+])?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)(?:\.[0-9]+)?|\.[0-9]+)(?:e[-+]?[0-9]{1,3}(?!\w))?",
    re.ASCII | re.IGNORECASE,
)


@dataclasses.dataclass(frozen=True)
class Reward:
    """What --reward names.

    Attributes:
      spec: as the user wrote it.
      fingerprint: SHA-256 of what decides its values.
      load: gives the function, and runs the user's file, so that only reward_process calls it.
      check: called with where a record is and the record; raises DataError if it lacks what the reward reads.
    """

    spec: str
    fingerprint: str
    load: Callable[[], RewardFunction]
    check: Callable[[str, dict[str, Any]], None]


def open_reward(spec: str) -> Reward:
    """The reward that --reward names: FILE.py:FUNCTION, or one of BUILT_IN with its argument. No file of it runs here.

    Raises:
      UsageError: there is no such reward or file, or the argument is not valid.
    """
    name, _, argument = spec.partition(":")
    if name in BUILT_IN:
        function, check = BUILT_IN[name](spec, argument)
        return Reward(spec, hashlib.sha256(spec.encode()).hexdigest(), lambda: function, check)
    name, _, function_name = spec.rpartition(":")
    if not name.endswith(".py") or not function_name.isidentifier():
        raise UsageError(f"--reward {spec}: no such reward; use {FORMS}")
    try:
        content = Path(name).read_bytes()
    except FileNotFoundError:
        raise UsageError(f"--reward {spec}: no file {name}; give one with the function {function_name}") from None
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"--reward {spec}: {name}: {reason}; give a file that can be read") from None
    fingerprint = hashlib.sha256(function_name.encode() + b"\0" + content).hexdigest()
    return Reward(spec, fingerprint, lambda: _load(name, content, function_name), _accept)


def _load(path: str, content: bytes, name: str) -> RewardFunction:
    """Run a file as Python does, but for the cache of bytecode that it would write beside it.

    Raises:
      NameError, TypeError: it has no function of the name, or none of a prompt, an answer and a record.
      BaseException: any that the file raises.
    """
    sys.path.insert(0, str(Path(path).resolve().parent))
    module = types.ModuleType(Path(path).stem)
    module.__file__ = path
    sys.modules.setdefault(module.__name__, module)  # where dataclasses and pickle look
    exec(compile(content, path, "exec"), module.__dict__)
    function = getattr(module, name, None)
    if not callable(function):
        raise NameError(f"{path} has no function {name}(prompt, answer, record)")
    with contextlib.suppress(ValueError):  # a function of C, which has no signature
        inspect.signature(function).bind("", "", {})
    return function


def _accept(where: str, record: dict[str, Any]) -> None:
    """Any record will do."""


# ---- Built in


def last_number(text: str) -> decimal.Decimal | None:
    """The last number in a text, exactly; None: there is none."""
    numbers = NUMBER.findall(text)
    return decimal.Decimal(numbers[-1].replace(",", "")) if numbers else None


def _field_text(spec: str, where: str, record: dict[str, Any], field: str) -> str:
    """A text or a number in a record, as a text."""
    if field not in record:
        from jaxgpt.data.prompts import FIELDS  # not in the process of a reward, which has no need of it
        from jaxgpt.data.records import describe_fields

        fields = describe_fields(where.rpartition(", line ")[0], record, FIELDS)
        raise DataError(f"{where}: no field {field!r}, which --reward {spec} reads; {fields}")
    value = record[field]
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        what = f"{field!r} is of type {type(value).__name__}"
        raise DataError(f"{where}: {what}, and --reward {spec} reads a text or a number; correct it")
    return str(value)


def _exact(spec: str, field: str) -> tuple[RewardFunction, Callable]:
    """1 if the answer is the record's field, but for blanks at the ends."""
    _require_argument(spec, field, "the name of a field")

    def check(where: str, record: dict[str, Any]) -> None:
        _field_text(spec, where, record, field)

    return lambda prompt, answer, record: answer.strip() == str(record[field]).strip(), check


def _number(spec: str, field: str) -> tuple[RewardFunction, Callable]:
    """1 if the last number in the answer is the last one in the record's field."""
    _require_argument(spec, field, "the name of a field")

    def check(where: str, record: dict[str, Any]) -> None:
        if last_number(_field_text(spec, where, record, field)) is None:
            raise DataError(f"{where}: no number in {field!r}, which --reward {spec} reads; correct it")

    return lambda prompt, answer, record: last_number(answer) == last_number(str(record[field])), check


def _regex(spec: str, pattern: str) -> tuple[RewardFunction, Callable]:
    """1 if the pattern is found in the answer."""
    _require_argument(spec, pattern, "a pattern")
    try:
        compiled = re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise UsageError(f"--reward {spec}: {error}; correct the pattern, which is one of Python's re") from None
    return lambda prompt, answer, record: bool(compiled.search(answer)), _accept


def _length(spec: str, argument: str) -> tuple[RewardFunction, Callable]:
    """1 for at most N characters, then falling evenly to 0 at 2 N."""
    limit = int(argument) if re.fullmatch("[0-9]{1,9}", argument) else 0
    if not limit:
        raise UsageError(f"--reward {spec}: length needs a number of characters, at least 1, such as length:200")
    return lambda prompt, answer, record: min(1.0, max(0.0, 2 - len(answer) / limit)), _accept


def _require_argument(spec: str, argument: str, what: str) -> None:
    if not argument:
        raise UsageError(f"--reward {spec}: give {what} behind the colon; use {FORMS}")


BUILT_IN = {"exact": _exact, "number": _number, "regex": _regex, "length": _length}
