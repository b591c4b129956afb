"""JSON that anyone may have written: read, or refused with a reason in words, whatever is wrong with it."""

import json
import math
from pathlib import Path
from typing import Any

# Of a file, of which the largest of ours but meta.json has 10 MB: what it holds may take 30 times as much memory.
MAX_BYTES = 12 * 2**20
MAX_DEPTH = 50  # brackets within brackets: far fewer than what repr or json.dumps can follow
TOO_DEEP = f"nested more than {MAX_DEPTH} levels deep"


def _parse_int(digits: str) -> int | float:
    return int(digits) if len(digits) < 19 else float(digits)


DECODER = json.JSONDecoder(parse_int=_parse_int)


def parse_json(content: bytes) -> Any:
    """What a JSON text holds.

    An integer of 19 characters or more becomes a float, perhaps an infinite one: any int fits into 64 bits.

    Raises:
      ValueError: it is not JSON, not UTF-8, or nested too deeply.
    """
    try:
        parsed = DECODER.decode(content.decode("utf-8-sig"))
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    if is_too_deep(parsed):
        raise ValueError(TOO_DEEP)
    return parsed


def is_too_deep(parsed: Any) -> bool:
    """Whether what a JSON text holds is nested more than MAX_DEPTH levels deep."""
    level = [parsed]
    for _ in range(MAX_DEPTH + 1):
        containers = [each for each in level if isinstance(each, dict | list)]
        if not containers:
            return False
        level = [child for each in containers for child in (each.values() if isinstance(each, dict) else each)]
    return True


def read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """What a JSON file holds.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it can't be read, has more than `max_bytes`, or as `parse_json`.
    """
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise ValueError("not a regular file")
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise
    except OSError as error:
        raise ValueError(error.strerror or str(error)) from None
    if len(content) > max_bytes:
        raise ValueError(f"it has more than {max_bytes:,} bytes")
    return parse_json(content)


def read_object(path: Path, max_bytes: int = MAX_BYTES) -> dict[str, Any]:
    """The object in a JSON file. Errors as `read_json`, and a ValueError if it has anything else."""
    content = read_json(path, max_bytes)
    if not isinstance(content, dict):
        raise ValueError("not a JSON object")
    return content


def try_read_json(path: Path, max_bytes: int = MAX_BYTES) -> Any:
    """What a JSON file holds; None if there is none, or it can't be read."""
    try:
        return read_json(path, max_bytes)
    except (FileNotFoundError, ValueError):
        return None


def replace_nonfinite(value: Any) -> Any:
    """The value with None for each number that JSON does not have."""
    if isinstance(value, dict):
        return {key: replace_nonfinite(each) for key, each in value.items()}
    if isinstance(value, list):
        return [replace_nonfinite(each) for each in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
