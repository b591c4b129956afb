"""What `jaxgpt evaluate --json` has measured, for a report: files in a run's folder, and those that are named."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jaxgpt.errors import DataError
from jaxgpt.json_file import read_json, try_read_json
from jaxgpt.page import render_table

NUMBERS = ("loss", "accuracy")  # of which each such file has one, or one of the parts
PARTS = ("pairs", "rewards", "reward", "choices", "canaries", "tasks", "environment", "bias", "bias_text")
MAX_ROWS, MAX_DEPTH = 200, 6


def find_evaluations(folder: Path) -> dict[str, dict[str, Any]]:
    """The evaluations in a run's folder, by their file names; other files are left alone."""
    files = sorted(path for path in folder.glob("*.json") if path.name != "config.json")
    contents = {path.name: try_read_json(path) for path in files}
    return {name: content for name, content in contents.items() if _is_evaluation(content)}


def read_evaluation(path: Path) -> dict[str, Any]:
    """One that the user has named.

    Raises:
      DataError: it is none.
    """
    try:
        content = read_json(path)
    except FileNotFoundError:
        raise DataError(f"--evaluation {path}: no such file") from None
    except ValueError as error:
        raise DataError(f"--evaluation {path}: can't be read ({error})") from None
    if not _is_evaluation(content):
        raise DataError(f"--evaluation {path}: is not from jaxgpt evaluate --json; name such a file")
    return content


def _is_evaluation(content: Any) -> bool:
    if not isinstance(content, dict):
        return False
    has_number = any(type(content.get(name)) in (int, float) for name in NUMBERS)
    return has_number or any(isinstance(content.get(name), dict) for name in PARTS)


def evaluations_table(evaluations: dict[str, dict[str, Any]]) -> str:
    """A column for each file, and a row for each number that one has; "" if there are no files."""
    numbers = [dict(flatten_numbers(content)) for content in evaluations.values()]
    names = [*dict.fromkeys(name for each in numbers for name in each)][:MAX_ROWS]
    rows: list[Sequence[str]] = [["model", *(str(each.get("model", "")) for each in evaluations.values())]]
    rows += [[name, *(each.get(name, "") for each in numbers)] for name in names]
    return render_table("Evaluations", ["", *evaluations], rows) if evaluations else ""


def flatten_numbers(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, str]]:
    """The numbers in nested objects, by the names on the way to each; the harness's are `hellaswag acc`."""
    if isinstance(value, dict) and len(path) < MAX_DEPTH:
        for name, each in value.items():
            skipped = name in ("config", "configs", "versions", "n-shot", "n-samples") and path == ("tasks",)
            if not skipped:
                yield from flatten_numbers(each, (*path, name))
    elif type(value) in (int, float):
        name = " ".join(part for part in path if part not in ("tasks", "results")).removesuffix(",none")
        digits = ".3g" if 0 < abs(value) < 1e-4 else ",.4f"  # a p-value of 1e-60 is not 0
        yield name, f"{value:,}" if type(value) is int else f"{value:{digits}}"
